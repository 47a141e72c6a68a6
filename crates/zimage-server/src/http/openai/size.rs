//! The rule of sizes: multiples of 16, no longer than three times their width, within the server's limits.

use std::fmt::Write as _;

use zimage::pipeline::request::SIZE_MULTIPLE;

use crate::http::openai::ApiError;
use crate::limits::Limits;

const MULTIPLE: u32 = SIZE_MULTIPLE as u32;
const MAX_RATIO: u32 = 3;
/// How many sizes are proposed in place of a wrong one.
const PROPOSALS: usize = 3;

/// Reads a size; `auto` is `None`.
///
/// # Errors
/// 400 for anything that breaks the rule, with the nearest sizes that keep it.
pub fn parse(text: &str, limits: &Limits) -> Result<Option<(u32, u32)>, ApiError> {
    if text == "auto" {
        return Ok(None);
    }
    let side = |digits: &str| digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    let Some((width, height)) = sides else {
        return Err(ApiError::unsupported("size", "size: it is neither `auto` nor of the form `1024x1024`"));
    };
    if is_valid(width, height, limits) { Ok(Some((width, height))) } else { Err(refused(width, height, limits)) }
}

fn is_valid(width: u32, height: u32, limits: &Limits) -> bool {
    let pixels = u64::from(width) * u64::from(height);
    let (short, long) = (width.min(height), width.max(height));
    width.is_multiple_of(MULTIPLE)
        && height.is_multiple_of(MULTIPLE)
        && short > 0
        && u64::from(long) <= u64::from(short) * u64::from(MAX_RATIO)
        && long <= limits.max_side
        && pixels <= limits.max_pixels
}

fn refused(width: u32, height: u32, limits: &Limits) -> ApiError {
    let mut message = format!(
        "size: {width}x{height} cannot be drawn; sides are multiples of {MULTIPLE} up to {}, at most {MAX_RATIO} to 1, \
         with {} pixels in all; nearest:",
        limits.max_side, limits.max_pixels
    );
    for (index, (width, height)) in nearest(width, height, limits).into_iter().enumerate() {
        let comma = if index == 0 { " " } else { ", " };
        let _ = write!(message, "{comma}{width}x{height}");
    }
    ApiError::unsupported("size", message)
}

/// The valid sizes that are nearest to a wrong one.
fn nearest(width: u32, height: u32, limits: &Limits) -> Vec<(u32, u32)> {
    // Down to the limits first, keeping the shape as far as its ratio allows.
    let (mut w, mut h) = (f64::from(width.max(1)), f64::from(height.max(1)));
    let ratio = f64::from(MAX_RATIO);
    (w, h) = (w.min(h * ratio), h.min(w * ratio));
    let pixels = (limits.max_pixels as f64 / (w * h)).sqrt();
    let scale = pixels.min(f64::from(limits.max_side) / w.max(h)).min(1.0);
    let multiples = |side: f64| {
        let below = ((side * scale) as u32 / MULTIPLE * MULTIPLE).max(MULTIPLE);
        // A step to each side, for where one of them breaks another part of the rule.
        [below.saturating_sub(MULTIPLE).max(MULTIPLE), below, below + MULTIPLE, below + 2 * MULTIPLE]
    };
    let mut sizes: Vec<_> = multiples(w).into_iter().flat_map(|w| multiples(h).map(|h| (w, h))).collect();
    sizes.retain(|&(w, h)| is_valid(w, h, limits));
    let distance = |&(a, b): &(u32, u32)| (f64::from(a) - w * scale).hypot(f64::from(b) - h * scale);
    sizes.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    sizes.dedup();
    sizes.truncate(PROPOSALS);
    sizes
}
