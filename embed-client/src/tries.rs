//! How often a text is sent again, depending on what became of the last try.
//!
//! A text may kill a worker, so it must not be tried on all of them. But most texts that are lost have
//! only been there: what counts against a text is that its worker died before anybody was answered
//! after it was sent. A text of which that is true is tried again alone, and the others that were there
//! in small company, so that one which kills takes no neighbour with it in the end.

/// Deaths without an answer after which a text is given up; the second is its own doing, since it was
/// tried alone.
const DEATHS_MAX: u32 = 2;

/// Deaths after which it is given up though others were answered in between, behind whom it most likely
/// stood in the queue.
const DEATHS_IN_ALL_MAX: u32 = 4;

/// Workers that hang after which it is given up. A text does not stop a process, as it might kill one;
/// but it may make one use up the machine.
const HANGS_MAX: u32 = 9;

/// Workers that were lost before it was sent after which it is given up. It has harmed nobody.
const UNSENT_MAX: u32 = 33;

/// Workers that left in peace after which it is given up. Nothing was begun, so another try is always
/// safe; the bound is for a machine on which every worker leaves at once.
const FAREWELLS_MAX: u32 = 9;

/// How many texts that were there when a worker died may be tried again at the same time: enough for a
/// batch, and few enough that most of them are not there again.
pub(crate) const COMPANY_MAX: u32 = 16;

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Try {
    /// The worker died; others may have been answered since the text was sent.
    Died { others_answered: bool },
    /// The worker hung.
    Hung,
    /// The connection was gone before the text was sent.
    Unsent,
    /// The worker leaves and has not begun with it.
    Farewell,
}

/// The tries of one text.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    deaths: u32,
    deaths_in_all: u32,
    hangs: u32,
    unsent: u32,
    farewells: u32,
}

impl Tries {
    /// Counts a try; whether there may be another.
    pub(crate) fn another_after(&mut self, last: Try) -> bool {
        match last {
            Try::Died { others_answered } => {
                self.deaths_in_all += 1;
                self.deaths += u32::from(!others_answered);
                self.deaths < DEATHS_MAX && self.deaths_in_all < DEATHS_IN_ALL_MAX
            }
            Try::Hung => count(&mut self.hangs, HANGS_MAX),
            Try::Unsent => count(&mut self.unsent, UNSENT_MAX),
            Try::Farewell => count(&mut self.farewells, FAREWELLS_MAX),
        }
    }

    /// How much of [`COMPANY_MAX`] the next try must have for itself: all of it if the text may well have
    /// killed a worker.
    pub(crate) fn company(&self) -> u32 {
        match (self.deaths, self.deaths_in_all) {
            (0, 0) => 0,
            (0, 1) => 1,
            // Twice there when a worker died, whoever was answered: the third time will tell.
            _ => COMPANY_MAX,
        }
    }
}

fn count(tries: &mut u32, max: u32) -> bool {
    *tries += 1;
    *tries < max
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a text is tried to which this happens each time.
    fn n_tries(last: Try) -> u32 {
        let mut tries = Tries::default();
        (1..1000).find(|_| !tries.another_after(last)).expect("an end")
    }

    #[test]
    fn a_text_that_kills_is_tried_twice_and_the_second_time_alone() {
        let alone = Try::Died { others_answered: false };
        assert_eq!(n_tries(alone), 2);
        let mut tries = Tries::default();
        assert_eq!(tries.company(), 0);
        assert!(tries.another_after(alone));
        assert_eq!(tries.company(), COMPANY_MAX);
        assert!(!tries.another_after(alone));
    }

    #[test]
    fn a_text_that_stands_behind_others_is_tried_more_often() {
        assert_eq!(n_tries(Try::Died { others_answered: true }), 4);
        let mut tries = Tries::default();
        assert!(tries.another_after(Try::Died { others_answered: true }));
        assert_eq!(tries.company(), 1);
        assert!(tries.another_after(Try::Died { others_answered: true }));
        assert_eq!(tries.company(), COMPANY_MAX);
    }

    #[test]
    fn what_no_text_can_do_does_not_count_against_it() {
        assert_eq!(n_tries(Try::Hung), HANGS_MAX);
        assert_eq!(n_tries(Try::Unsent), UNSENT_MAX);
        assert_eq!(n_tries(Try::Farewell), FAREWELLS_MAX);
        let mut tries = Tries::default();
        for last in [Try::Hung, Try::Unsent, Try::Farewell] {
            assert!(tries.another_after(last));
            assert_eq!(tries.company(), 0);
        }
    }
}
