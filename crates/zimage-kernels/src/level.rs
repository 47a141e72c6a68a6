//! Which version of a kernel runs: found once from the CPU, lowered by an environment variable.

use std::sync::OnceLock;

/// The environment variable that lowers the level: `naive`, `portable`, `avx2` or `avx512`.
pub const LEVEL_VARIABLE: &str = "ZIMAGE_CPU_LEVEL";

/// A version of the kernels, in rising order of what it asks of the CPU.
///
/// Every kernel checks that the CPU has the level it was given, so a level can be named freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain loops with f64 sums: the oracle that the other levels are tested against.
    Naive,
    /// The fast loops without any instruction set beyond the target's own.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ beside everything of [`Level::Avx2`].
    Avx512,
}

impl Level {
    /// The level to use: the best one of this CPU, or the lower one that `ZIMAGE_CPU_LEVEL` names.
    ///
    /// The variable never raises the level; a value it does not know is ignored here, and
    /// [`Level::from_name`] lets a program refuse it with a message of its own.
    pub fn detect() -> Level {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let asked = std::env::var(LEVEL_VARIABLE).ok();
            lowered(Level::best(), asked.as_deref())
        })
    }

    /// The highest level that this CPU has, whatever the environment says.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(best_of_this_cpu)
    }

    /// All levels that this CPU has, lowest first; always starts with [`Level::Naive`].
    pub fn supported() -> Vec<Level> {
        let all = [Level::Naive, Level::Portable, Level::Avx2, Level::Avx512];
        all.into_iter().filter(|level| *level <= Level::best()).collect()
    }

    /// The level of that name, as `ZIMAGE_CPU_LEVEL` spells it.
    pub fn from_name(name: &str) -> Option<Level> {
        match name {
            "naive" => Some(Level::Naive),
            "portable" => Some(Level::Portable),
            "avx2" => Some(Level::Avx2),
            "avx512" => Some(Level::Avx512),
            _ => None,
        }
    }

    /// The name, as `ZIMAGE_CPU_LEVEL` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Naive => "naive",
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Panics when this CPU lacks the level: the check that makes every `unsafe` call of a
    /// `#[target_feature]` function sound.
    #[inline]
    pub(crate) fn check(self) {
        assert!(self <= Level::best(), "cpu level {} asked for, this cpu has {}", self.name(), Level::best().name());
    }
}

/// The level of that name where it is lower than `best`, else `best`.
fn lowered(best: Level, name: Option<&str>) -> Level {
    name.and_then(Level::from_name).map_or(best, |asked| asked.min(best))
}

#[cfg(target_arch = "x86_64")]
fn best_of_this_cpu() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_of_this_cpu() -> Level {
    Level::Portable
}

/// Calls `$naive` at the naive level, and elsewhere `$fast` compiled for the level.
///
/// `$fast` must be `#[inline(always)]`: its loops are inlined into one `#[target_feature]`
/// function per level, and the compiler vectorizes each copy for that level. The loops hold no
/// fused multiply-add, so the copies give the same bits.
macro_rules! per_level {
    ($level:expr, $naive:path, $fast:path, ($($arg:ident: $ty:ty),* $(,)?)) => {
        $crate::level::per_level!($level, $naive, $fast, ($($arg: $ty),*) -> ())
    };
    ($level:expr, $naive:path, $fast:path, ($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty) => {{
        let level: $crate::Level = $level;
        level.check();
        match level {
            $crate::Level::Naive => $naive($($arg),*),
            #[cfg(target_arch = "x86_64")]
            $crate::Level::Avx2 => {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn compiled($($arg: $ty),*) -> $ret {
                    $fast($($arg),*)
                }
                // SAFETY: `check` found that this CPU has the level.
                unsafe { compiled($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::Level::Avx512 => {
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
                fn compiled($($arg: $ty),*) -> $ret {
                    $fast($($arg),*)
                }
                // SAFETY: `check` found that this CPU has the level.
                unsafe { compiled($($arg),*) }
            }
            _ => $fast($($arg),*),
        }
    }};
}
pub(crate) use per_level;

#[cfg(test)]
#[path = "level/tests.rs"]
mod tests;
