//! Large pictures in overlapping tiles, blended linearly where they overlap.
//!
//! Memory then depends on the tile, not on the picture. The result differs a little from the untiled one, because
//! each tile has its own normalization statistics; it equals diffusers' `enable_tiling`.
//!
//! Source: diffusers `AutoencoderKL.tiled_decode`, `_tiled_encode`, `blend_v`, `blend_h`.

use crate::Result;
use zimage_tensor::Tensor;

/// Share of a tile that overlaps its neighbour.
const OVERLAP: f64 = 0.25;

/// Sizes of the tiles of one direction, encode or decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Rows and columns of an input tile.
    tile: usize,
    /// Step between input tiles.
    stride: usize,
    /// Output rows and columns over which neighbours are blended.
    blend: usize,
    /// Output rows and columns that a tile contributes.
    limit: usize,
}

/// A tile after the model: `(channels, height, width)` in main memory.
struct Plane {
    data: Vec<f32>,
    channels: usize,
    height: usize,
    width: usize,
}

impl Tiling {
    /// Tiles of `tile` input pixels that come out as `out_tile`.
    pub fn new(tile: usize, out_tile: usize) -> Tiling {
        let blend = (out_tile as f64 * OVERLAP) as usize;
        Tiling { tile, stride: (tile as f64 * (1.0 - OVERLAP)) as usize, blend, limit: out_tile - blend }
    }

    /// Whether an input of this size is cut at all.
    pub fn applies(&self, height: usize, width: usize) -> bool {
        height > self.tile || width > self.tile
    }

    /// Runs `model` over the tiles of `x`, `(channels, height, width)`, and puts the output together.
    pub fn run(&self, x: &Tensor, model: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let [channels, height, width] = x.shape()[..] else { panic!("tiling of {:?}", x.shape()) };
        let input = Plane { data: x.to_vec(), channels, height, width };
        let mut above: Vec<Plane> = Vec::new();
        let mut bands: Vec<Plane> = Vec::new();
        for y in (0..height).step_by(self.stride) {
            let mut row: Vec<Plane> = Vec::new();
            for (j, left) in (0..width).step_by(self.stride).enumerate() {
                let tile = input.window(y, left, self.tile, self.tile);
                let tensor = Tensor::from_vec(x.device(), &[channels, tile.height, tile.width], tile.data)?;
                let mut out = Plane::from_tensor(model(&tensor)?);
                if let Some(above) = above.get(j) {
                    out.blend_from_above(above, self.blend);
                }
                if let Some(left) = row.last() {
                    out.blend_from_left(left, self.blend);
                }
                row.push(out);
            }
            bands.push(Plane::beside(row.iter().map(|tile| tile.window(0, 0, self.limit, self.limit)).collect()));
            above = row;
        }
        let out = Plane::stacked(bands);
        Ok(Tensor::from_vec(x.device(), &[out.channels, out.height, out.width], out.data)?)
    }
}

impl Plane {
    fn from_tensor(t: Tensor) -> Plane {
        let [channels, height, width] = t.shape()[..] else { panic!("a tile of {:?}", t.shape()) };
        Plane { data: t.into_vec(), channels, height, width }
    }

    fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = (channel * self.height + y) * self.width;
        &self.data[start..start + self.width]
    }

    fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = (channel * self.height + y) * self.width;
        &mut self.data[start..start + self.width]
    }

    /// The part of at most `height x width` that starts at (`top`, `left`).
    fn window(&self, top: usize, left: usize, height: usize, width: usize) -> Plane {
        let (height, width) = (height.min(self.height - top), width.min(self.width - left));
        let rows = (0..self.channels).flat_map(|c| (top..top + height).map(move |y| (c, y)));
        let data = rows.flat_map(|(c, y)| self.row(c, y)[left..left + width].iter().copied()).collect();
        Plane { data, channels: self.channels, height, width }
    }

    fn blend_from_above(&mut self, above: &Plane, extent: usize) {
        let extent = extent.min(self.height).min(above.height);
        for c in 0..self.channels {
            for y in 0..extent {
                let weight = y as f32 / extent as f32;
                let from = above.row(c, above.height - extent + y);
                self.row_mut(c, y).iter_mut().zip(from).for_each(|(b, a)| *b = a * (1.0 - weight) + *b * weight);
            }
        }
    }

    fn blend_from_left(&mut self, left: &Plane, extent: usize) {
        let extent = extent.min(self.width).min(left.width);
        for c in 0..self.channels {
            for y in 0..self.height {
                let from = &left.row(c, y)[left.width - extent..];
                let to = &mut self.row_mut(c, y)[..extent];
                for (x, (b, a)) in to.iter_mut().zip(from).enumerate() {
                    let weight = x as f32 / extent as f32;
                    *b = a * (1.0 - weight) + *b * weight;
                }
            }
        }
    }

    /// Planes of the same height side by side.
    fn beside(tiles: Vec<Plane>) -> Plane {
        let (channels, height) = (tiles[0].channels, tiles[0].height);
        let rows = (0..channels).flat_map(|c| (0..height).map(move |y| (c, y)));
        let data = rows.flat_map(|(c, y)| tiles.iter().flat_map(move |tile| tile.row(c, y).iter().copied())).collect();
        Plane { data, channels, height, width: tiles.iter().map(|tile| tile.width).sum() }
    }

    /// Planes of the same width on top of each other.
    fn stacked(bands: Vec<Plane>) -> Plane {
        let (channels, width) = (bands[0].channels, bands[0].width);
        let data = (0..channels)
            .flat_map(|c| {
                bands.iter().flat_map(move |band| {
                    let plane = band.height * band.width;
                    band.data[c * plane..(c + 1) * plane].iter().copied()
                })
            })
            .collect();
        Plane { data, channels, height: bands.iter().map(|band| band.height).sum(), width }
    }
}
