//! What the processor could do at best: the scale that measured products are read against.
#![expect(unsafe_code, reason = "loops of the very instructions, which no compiler may shorten")]

use std::time::Instant;

use super::{Isa, Kernels};

/// Rounds of a loop that is timed.
const ROUNDS: u64 = 2_000_000;

/// Loops timed; the fastest counts, because whatever disturbs a loop makes it slower.
const TRIES: usize = 7;

impl Kernels {
    /// Multiplications and additions of int8 that `threads` cores do in a second at the same time,
    /// with nothing but the dot instructions of this instruction set on registers; `None` for the
    /// portable one, which has none.
    pub fn integer_roof(self, threads: usize) -> Option<f64> {
        let run: fn() -> u64 = match self.isa {
            Isa::Portable => return None,
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token exists, so the processor has these instructions.
            Isa::Avx2(_) => || unsafe { madd() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::AvxVnni(_) => || unsafe { dpbusd_256() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni(_) => || unsafe { dpbusd() },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon(_) => || unsafe { mull() },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::NeonDot(_) => || unsafe { sdot() },
        };
        Some(std::thread::scope(|scope| {
            let cores: Vec<_> = (1..threads).map(|_| scope.spawn(|| best(run))).collect();
            let own = best(run);
            // A thread that only counts does not panic.
            cores
                .into_iter()
                .map(|core| core.join().unwrap_or(0.0))
                .fold(own, |sum, core| sum + core)
        }))
    }
}

/// Bytes that one core reads in a second from memory that no cache holds.
pub fn memory_roof() -> f64 {
    const BYTES: usize = 256 * 1024 * 1024;
    let data = vec![1_u8; BYTES];
    let (chunks, _) = data.as_chunks::<8>();
    let seconds = (0..TRIES).map(|_| {
        let start = Instant::now();
        let sums = chunks.chunks_exact(8).fold([0_u64; 8], |mut sums, chunk| {
            for (sum, bytes) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*bytes));
            }
            sums
        });
        std::hint::black_box(sums);
        start.elapsed().as_secs_f64()
    });
    BYTES as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// The best rate of a loop that gives how much it did.
fn best(run: impl Fn() -> u64) -> f64 {
    let rates = (0..TRIES).map(|_| {
        let start = Instant::now();
        let done = run();
        done as f64 / start.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

/// Sixteen independent `vpdpbusd` of 512 bits a round; gives the products.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dpbusd() -> u64 {
    // SAFETY: registers that are named as clobbered, and a counter.
    unsafe {
        std::arch::asm!(
            "2:",
            "vpdpbusd zmm0, zmm30, zmm31", "vpdpbusd zmm1, zmm30, zmm31",
            "vpdpbusd zmm2, zmm30, zmm31", "vpdpbusd zmm3, zmm30, zmm31",
            "vpdpbusd zmm4, zmm30, zmm31", "vpdpbusd zmm5, zmm30, zmm31",
            "vpdpbusd zmm6, zmm30, zmm31", "vpdpbusd zmm7, zmm30, zmm31",
            "vpdpbusd zmm8, zmm30, zmm31", "vpdpbusd zmm9, zmm30, zmm31",
            "vpdpbusd zmm10, zmm30, zmm31", "vpdpbusd zmm11, zmm30, zmm31",
            "vpdpbusd zmm12, zmm30, zmm31", "vpdpbusd zmm13, zmm30, zmm31",
            "vpdpbusd zmm14, zmm30, zmm31", "vpdpbusd zmm15, zmm30, zmm31",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm30") _, out("zmm31") _,
            options(nomem, nostack),
        );
    }
    ROUNDS * 16 * 64
}

/// Twelve independent `vpdpbusd` of 256 bits a round; gives the products.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn dpbusd_256() -> u64 {
    // SAFETY: registers that are named as clobbered, and a counter.
    unsafe {
        std::arch::asm!(
            "2:",
            "{{vex}} vpdpbusd ymm0, ymm14, ymm15", "{{vex}} vpdpbusd ymm1, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm2, ymm14, ymm15", "{{vex}} vpdpbusd ymm3, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm4, ymm14, ymm15", "{{vex}} vpdpbusd ymm5, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm6, ymm14, ymm15", "{{vex}} vpdpbusd ymm7, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm8, ymm14, ymm15", "{{vex}} vpdpbusd ymm9, ymm14, ymm15",
            "{{vex}} vpdpbusd ymm10, ymm14, ymm15", "{{vex}} vpdpbusd ymm11, ymm14, ymm15",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm14") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    ROUNDS * 12 * 32
}

/// Four independent `vpmaddubsw`, `vpmaddwd`, `vpaddd` of 256 bits a round; gives the products.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn madd() -> u64 {
    // SAFETY: registers that are named as clobbered, and a counter.
    unsafe {
        std::arch::asm!(
            "2:",
            "vpmaddubsw ymm4, ymm14, ymm15", "vpmaddubsw ymm5, ymm14, ymm15",
            "vpmaddubsw ymm6, ymm14, ymm15", "vpmaddubsw ymm7, ymm14, ymm15",
            "vpmaddwd ymm4, ymm4, ymm13", "vpmaddwd ymm5, ymm5, ymm13",
            "vpmaddwd ymm6, ymm6, ymm13", "vpmaddwd ymm7, ymm7, ymm13",
            "vpaddd ymm0, ymm0, ymm4", "vpaddd ymm1, ymm1, ymm5",
            "vpaddd ymm2, ymm2, ymm6", "vpaddd ymm3, ymm3, ymm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    ROUNDS * 4 * 32
}

/// Sixteen independent `sdot` a round; gives the products.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn sdot() -> u64 {
    // SAFETY: registers that are named as clobbered, and a counter.
    unsafe {
        std::arch::asm!(
            "2:",
            "sdot v0.4s, v30.16b, v31.4b[0]", "sdot v1.4s, v30.16b, v31.4b[1]",
            "sdot v2.4s, v30.16b, v31.4b[2]", "sdot v3.4s, v30.16b, v31.4b[3]",
            "sdot v4.4s, v30.16b, v31.4b[0]", "sdot v5.4s, v30.16b, v31.4b[1]",
            "sdot v6.4s, v30.16b, v31.4b[2]", "sdot v7.4s, v30.16b, v31.4b[3]",
            "sdot v8.4s, v30.16b, v31.4b[0]", "sdot v9.4s, v30.16b, v31.4b[1]",
            "sdot v10.4s, v30.16b, v31.4b[2]", "sdot v11.4s, v30.16b, v31.4b[3]",
            "sdot v12.4s, v30.16b, v31.4b[0]", "sdot v13.4s, v30.16b, v31.4b[1]",
            "sdot v14.4s, v30.16b, v31.4b[2]", "sdot v15.4s, v30.16b, v31.4b[3]",
            "subs {rounds}, {rounds}, #1",
            "b.ne 2b",
            rounds = inout(reg) ROUNDS => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v30") _, out("v31") _,
            options(nomem, nostack),
        );
    }
    ROUNDS * 16 * 16
}

/// Four independent `smull`, `smlal`, `sadalp` and their twins for the upper halves a round, as two
/// quads of a format of 8 bits want them; gives the products.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn mull() -> u64 {
    // SAFETY: registers that are named as clobbered, and a counter.
    unsafe {
        std::arch::asm!(
            "2:",
            "smull v16.8h, v28.8b, v30.8b", "smull2 v17.8h, v28.16b, v30.16b",
            "smull v18.8h, v28.8b, v30.8b", "smull2 v19.8h, v28.16b, v30.16b",
            "smull v20.8h, v28.8b, v30.8b", "smull2 v21.8h, v28.16b, v30.16b",
            "smull v22.8h, v28.8b, v30.8b", "smull2 v23.8h, v28.16b, v30.16b",
            "smlal v16.8h, v29.8b, v31.8b", "smlal2 v17.8h, v29.16b, v31.16b",
            "smlal v18.8h, v29.8b, v31.8b", "smlal2 v19.8h, v29.16b, v31.16b",
            "smlal v20.8h, v29.8b, v31.8b", "smlal2 v21.8h, v29.16b, v31.16b",
            "smlal v22.8h, v29.8b, v31.8b", "smlal2 v23.8h, v29.16b, v31.16b",
            "sadalp v0.4s, v16.8h", "sadalp v1.4s, v17.8h",
            "sadalp v2.4s, v18.8h", "sadalp v3.4s, v19.8h",
            "sadalp v4.4s, v20.8h", "sadalp v5.4s, v21.8h",
            "sadalp v6.4s, v22.8h", "sadalp v7.4s, v23.8h",
            "subs {rounds}, {rounds}, #1",
            "b.ne 2b",
            rounds = inout(reg) ROUNDS => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nomem, nostack),
        );
    }
    ROUNDS * 4 * 32
}
