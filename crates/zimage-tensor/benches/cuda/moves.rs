//! What only moves values: each is read and written once.

use crate::gauge::Case;
use crate::inputs::activations;
use crate::sizes::Sizes;
use zimage_tensor::{Device, Tensor, ops};

/// All of them.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let Sizes { dim, picture, caption, .. } = *sizes;
    let (small, large) = (sizes.side(128), sizes.side(1024));
    let (latents, channels) = (16, sizes.channels(512));
    let case = |name: &str, x: &[usize], y: &[usize], run| case(device, name, (x, y), run);
    vec![
        case("concat_rows", &[picture, dim], &[caption, dim], |x, y| drop(ops::concat_rows(x, y))),
        case("slice_rows", &[picture, dim], &[0, 1], |x, _| drop(ops::slice_rows(x, 0, x.rows()))),
        case("split_columns", &[picture, dim], &[0, 1], |x, _| drop(ops::split_columns(x, 2))),
        case("append_token", &[picture, dim], &[1, dim], |x, y| drop(ops::append_token(x, y, 32))),
        case("chunk", &[1, 4 * dim], &[0, 1], |x, _| drop(ops::chunk(x, 4))),
        case("patchify", &[latents, small, small], &[0, 1], |x, _| drop(ops::patchify(x))),
        case("unpatchify", &[small / 2 * (small / 2), 4 * latents], &[0, 1], |x, _| {
            let side = 2 * x.rows().isqrt();
            drop(ops::unpatchify(x, side, side));
        }),
        case("channels_to_tokens", &[channels, small, small], &[0, 1], |x, _| drop(ops::channels_to_tokens(x))),
        case("channels_to_tokens", &[sizes.channels(128), large, large], &[0, 1], |x, _| {
            drop(ops::channels_to_tokens(x));
        }),
        case("tokens_to_channels", &[small * small, channels], &[0, 1], |x, _| {
            let side = x.rows().isqrt();
            drop(ops::tokens_to_channels(x, side, side));
        }),
    ]
}

fn case(device: &Device, name: &str, (x, y): (&[usize], &[usize]), run: fn(&Tensor, &Tensor)) -> Case {
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    let moved = 2.0 * (size(x) + size(y)) as f64 * device.activation_bytes() as f64;
    let shape: Vec<String> = x.iter().map(usize::to_string).collect();
    let (x, y) = (x.to_vec(), y.to_vec());
    Case::new(format!("{name} {}", shape.join(" x ")), device.natural_compute(), (moved, 0.0), move |device| {
        let (x, y) = (activations(device, &x)?, activations(device, &y)?);
        Ok(Box::new(move || run(&x, &y)))
    })
}
