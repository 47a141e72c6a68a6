//! The sizes of the model that decide the shapes of its operations.

/// Sizes of a picture, a prompt and the model.
pub struct Sizes {
    /// Tokens of the picture.
    pub picture: usize,
    /// Tokens of the caption.
    pub caption: usize,
    /// Features of the transformer, in heads of [`HEAD`].
    pub dim: usize,
    /// Features within its feed-forward.
    pub hidden: usize,
    /// Features of the time's embedding.
    pub time: usize,
    /// Features of the text encoder.
    pub text_dim: usize,
    /// Features within its feed-forward.
    pub text_hidden: usize,
    /// Its heads of queries, and of keys and values.
    pub text_heads: [usize; 2],
    /// What the VAE's channels are divided by, of 512 and fewer.
    pub fewer_channels: usize,
    /// What the sides of its pictures are divided by, of 1024 and fewer.
    pub smaller_sides: usize,
    /// Rows and columns of the matrices whose product is the peak.
    pub peak: usize,
    /// Bytes between two uses of the same operands: more than the L2 cache keeps.
    pub cold_bytes: f64,
    /// Runs that are timed, each of several repetitions.
    pub samples: usize,
    /// The most repetitions of a run.
    pub repetitions: usize,
}

/// Values of a head, also of the text encoder.
pub const HEAD: usize = 128;

impl Sizes {
    /// Those of Z-Image-Turbo with a picture of 1024x1024.
    pub const TURBO: Sizes = Sizes {
        picture: 4096,
        caption: 64,
        dim: 3840,
        hidden: 10240,
        time: 256,
        text_dim: 2560,
        text_hidden: 9728,
        text_heads: [32, 8],
        fewer_channels: 1,
        smaller_sides: 1,
        peak: 8192,
        cold_bytes: 256e6,
        samples: 9,
        repetitions: 100,
    };

    /// Enough that every kernel runs.
    pub const TINY: Sizes = Sizes {
        picture: 64,
        caption: 16,
        dim: 256,
        hidden: 512,
        time: 64,
        text_dim: 128,
        text_hidden: 256,
        text_heads: [2, 1],
        fewer_channels: 8,
        smaller_sides: 32,
        peak: 128,
        cold_bytes: 0.0,
        samples: 1,
        repetitions: 1,
    };

    /// All tokens of the main layers.
    pub fn tokens(&self) -> usize {
        self.picture + self.caption
    }

    /// A number of the VAE's channels.
    pub fn channels(&self, channels: usize) -> usize {
        (channels / self.fewer_channels).max(channels.min(4))
    }

    /// A side of one of its pictures.
    pub fn side(&self, side: usize) -> usize {
        side / self.smaller_sides
    }
}
