//! The definition, with f64 sums.

use super::band::Call;
use super::{Input, Output};
use crate::tile::TileMut;

pub(super) fn conv3x3_band(call: &Call, out: &mut TileMut) {
    let (width, first) = (call.conv.width, out.col0());
    for channel in 0..out.rows() {
        for (i, value) in out.row_mut(channel).iter_mut().enumerate() {
            let (y, x) = ((first + i) / width, (first + i) % width);
            let sum = f64::from(call.bias[channel]) + at(call, channel, y, x);
            *value = match call.output {
                Output::Replace => sum as f32,
                Output::Add => (f64::from(*value) + sum) as f32,
            };
        }
    }
}

/// The sum over the kernel at one place of the output.
fn at(call: &Call, channel: usize, y: usize, x: usize) -> f64 {
    let (cin, cout) = (call.conv.cin, call.conv.cout);
    let mut sum = 0.0;
    for c in 0..cin {
        for tap in 0..9 {
            let (y, x) = (y + tap / 3, x + tap % 3);
            if (1..=call.conv.height).contains(&y) && (1..=call.conv.width).contains(&x) {
                let weight = call.packed[(tap * cout + channel) * cin + c];
                sum += f64::from(weight) * value(call, c, y - 1, x - 1);
            }
        }
    }
    sum
}

fn value(call: &Call, c: usize, y: usize, x: usize) -> f64 {
    let (height, width) = (call.conv.height, call.conv.width);
    match call.input {
        Input::Plain(values) => f64::from(values[(c * height + y) * width + x]),
        Input::Doubled(values) => f64::from(values[(c * (height / 2) + y / 2) * (width / 2) + x / 2]),
        Input::NormSilu(values, norm) => {
            let [mean, factor, bias] = [norm.mean, norm.factor, norm.bias].map(|of| f64::from(of[c]));
            let v = (f64::from(values[(c * height + y) * width + x]) - mean) * factor + bias;
            v / (1.0 + (-v).exp())
        }
    }
}
