//! How often a worker is tried in a row before callers are told that there is none.
//!
//! A circuit breaker (Nygard, "Release It!", chapter 5) with the restarts' pauses in it.
//! It is told what happened and when, and says when the next attempt may be made; it knows no clock,
//! no process and no randomness of its own.

use std::time::Duration;

use tokio::time::Instant;

/// Restarts in a row, without an answer between them, before callers are told.
pub(crate) const RESTARTS_MAX: u32 = 3;

/// Pause before the second restart; the first is at once, and each further pause is three times as
/// long. Half of each is left to chance, so that many clients do not come all at the same time.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// How long callers are refused before one more attempt is made; doubled each time that it fails.
const COOL_DOWN_FIRST: Duration = Duration::from_secs(5);

/// Longest such time: a fault that was mended by hand is noticed within it.
const COOL_DOWN_MAX: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Attempts may be made; so many failed since the last answer.
    Closed { failures: u32 },
    /// None may be made before `until`.
    Open { until: Instant, cool_down: Duration },
    /// One is being made, or was made and has no answer yet.
    HalfOpen { cool_down: Duration },
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// After this pause, which may be none.
    After(Duration),
    /// Not before so much time has passed.
    Refused(Duration),
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Circuit {
    /// Whether an attempt may be made at `now`. `chance` is from 0 to 1 and chosen anew each time.
    pub(crate) fn permission(&mut self, now: Instant, chance: f64) -> Permission {
        match self.state {
            State::Closed { failures } => Permission::After(pause(failures, chance)),
            State::HalfOpen { .. } => Permission::After(Duration::ZERO),
            State::Open { until, cool_down } => {
                let left = until.saturating_duration_since(now);
                if !left.is_zero() {
                    return Permission::Refused(left);
                }
                self.state = State::HalfOpen { cool_down };
                Permission::After(Duration::ZERO)
            }
        }
    }

    /// A worker answered a text.
    pub(crate) fn answered(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// An attempt failed, or the worker that it led to was lost.
    pub(crate) fn failed(&mut self, now: Instant) {
        let open = |cool_down| State::Open { until: now + cool_down, cool_down };
        self.state = match self.state {
            State::Closed { failures } if failures < RESTARTS_MAX => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => open(COOL_DOWN_FIRST),
            State::HalfOpen { cool_down } => open((cool_down * 2).min(COOL_DOWN_MAX)),
            State::Open { until, cool_down } => State::Open { until, cool_down },
        };
    }
}

/// The pause before the attempt that follows so many failures.
fn pause(failures: u32, chance: f64) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => (PAUSE_FIRST * 3_u32.pow(more - 2)).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_AT_LEAST: Permission = Permission::After(Duration::ZERO);

    #[test]
    fn the_first_restart_is_at_once_and_the_others_wait_longer_and_longer() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.permission(now, 1.0), NOW_AT_LEAST, "the start");
        let mut pauses = Vec::new();
        for _ in 0..RESTARTS_MAX {
            circuit.failed(now);
            pauses.push(circuit.permission(now, 1.0));
        }
        let ms = |ms| Permission::After(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(0), ms(100), ms(300)]);
        assert_eq!(circuit.permission(now, 0.0), ms(150), "half is left to chance");
        circuit.failed(now);
        assert_eq!(circuit.permission(now, 0.5), Permission::Refused(COOL_DOWN_FIRST));
    }

    #[test]
    fn an_answer_lets_the_count_begin_anew() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..100 {
            for _ in 0..RESTARTS_MAX {
                circuit.failed(now);
            }
            circuit.answered();
        }
        circuit.failed(now);
        assert_eq!(circuit.permission(now, 1.0), NOW_AT_LEAST);
    }

    #[test]
    fn after_the_cool_down_one_attempt_decides() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        for _ in 0..=RESTARTS_MAX {
            circuit.failed(now);
        }
        let mut cool_downs = Vec::new();
        for _ in 0..6 {
            let Permission::Refused(left) = circuit.permission(now, 0.5) else {
                panic!("open: {circuit:?}")
            };
            cool_downs.push(left.as_secs());
            let early = now + left - Duration::from_millis(1);
            assert_eq!(
                circuit.permission(early, 0.5),
                Permission::Refused(Duration::from_millis(1))
            );
            now += left;
            assert_eq!(circuit.permission(now, 0.5), NOW_AT_LEAST, "one attempt");
            circuit.failed(now);
        }
        assert_eq!(cool_downs, [5, 10, 20, 40, 60, 60]);
        now += COOL_DOWN_MAX;
        circuit.permission(now, 0.5);
        circuit.answered();
        circuit.failed(now);
        assert_eq!(circuit.permission(now, 0.5), NOW_AT_LEAST, "healed");
    }

    #[test]
    fn failures_reported_while_it_is_open_do_not_prolong_it() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..100 {
            circuit.failed(now);
        }
        let later = now + Duration::from_secs(4);
        circuit.failed(later);
        assert_eq!(circuit.permission(later, 0.5), Permission::Refused(Duration::from_secs(1)));
    }
}
