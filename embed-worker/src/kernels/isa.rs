//! Instruction sets: what this processor can do, as values that cannot be made up.
//!
//! A token such as [`Avx2`] has no public constructor but its `detect`; whoever holds one may run
//! that code.

use std::fmt;

/// Proof that the processor has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that the processor has AVX-512 F, BW, VL, DQ and VNNI beside AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Vnni(pub(super) Avx2);

/// Proof that the processor has VNNI on registers of 256 bits beside AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvxVnni(Avx2);

/// Proof that the processor has NEON, as every aarch64 has.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

/// Proof that the processor has NEON with dots of bytes.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeonDot(Neon);

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Asks the processor; the answer never changes while a process lives.
    pub fn detect() -> Option<Self> {
        // Miri interprets none of these instructions.
        let found = !cfg!(miri)
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl AvxVnni {
    /// Asks the processor; the answer never changes while a process lives.
    pub fn detect() -> Option<Self> {
        let avx2 = Avx2::detect()?;
        std::arch::is_x86_feature_detected!("avxvnni").then_some(Self(avx2))
    }

    /// The smaller set.
    pub(super) fn avx2(self) -> Avx2 {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512Vnni {
    /// Asks the processor; the answer never changes while a process lives.
    pub fn detect() -> Option<Self> {
        let avx2 = Avx2::detect()?;
        let found = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(avx2))
    }
}

#[cfg(target_arch = "aarch64")]
impl Neon {
    /// Asks the processor; the answer never changes while a process lives.
    pub fn detect() -> Option<Self> {
        // Miri interprets few of these instructions, and lanes lie the other way round in memory
        // where the byte order is big-endian.
        let found = !cfg!(miri)
            && cfg!(target_endian = "little")
            && std::arch::is_aarch64_feature_detected!("neon");
        found.then_some(Self(()))
    }
}

#[cfg(target_arch = "aarch64")]
impl NeonDot {
    /// Asks the processor; the answer never changes while a process lives.
    pub fn detect() -> Option<Self> {
        let neon = Neon::detect()?;
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(neon))
    }

    /// The smaller set.
    pub(super) fn neon(self) -> Neon {
        self.0
    }
}

/// An instruction set that this processor has. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust: the law, and the fallback. Without FMA hardware it is slow.
    Portable,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX2 with VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// NEON with dots of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
}

/// An instruction set was asked for that is unknown, or that this processor does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction set `{found}`: this processor has {supported}")]
pub struct IsaError {
    found: String,
    supported: String,
}

impl Isa {
    /// What this processor has, from the plainest to the best.
    pub fn all_supported() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Self::Avx2));
            all.extend(AvxVnni::detect().map(Self::AvxVnni));
            all.extend(Avx512Vnni::detect().map(Self::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(Neon::detect().map(Self::Neon));
            all.extend(NeonDot::detect().map(Self::NeonDot));
        }
        all
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        Self::all_supported().pop().unwrap_or(Self::Portable)
    }

    /// The instruction set of this name, as in `EMBED_ISA`.
    ///
    /// # Errors
    ///
    /// An unknown name, or a set that this processor does not have.
    pub fn by_name(name: &str) -> Result<Self, IsaError> {
        let all = Self::all_supported();
        all.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError {
            found: name.into(),
            supported: all.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// What is added to every quantized activation: instructions that multiply unsigned by signed
    /// bytes take the activations as the unsigned side.
    pub(super) const fn activation_offset(self) -> u8 {
        match self {
            Self::Portable => 0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 0,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) | Self::Avx512Vnni(_) => 128,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) | Self::NeonDot(_) => 0,
        }
    }

    /// Its name, as in `EMBED_ISA`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => "neondotprod",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_set_is_found_by_its_name() {
        for isa in Isa::all_supported() {
            assert_eq!(Isa::by_name(isa.name()), Ok(isa));
        }
        assert!(Isa::all_supported().contains(&Isa::best()));
    }

    #[test]
    fn an_unknown_set_is_refused_with_what_there_is() {
        let error = Isa::by_name("mmx").expect_err("nobody has it").to_string();
        assert!(error.contains("`mmx`") && error.contains("portable"), "{error}");
    }
}
