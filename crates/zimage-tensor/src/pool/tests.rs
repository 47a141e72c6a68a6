//! The policy, on the sizes that the models ask for, without any memory.

use super::{Block, LARGEST_FIT, Pool};
use std::collections::HashMap;

/// A block that is its size.
impl Block for usize {
    type Source = ();

    fn allocate((): &(), len: usize) -> usize {
        len
    }

    fn len(&self) -> usize {
        *self
    }
}

/// Width of the transformer, and of its feed-forward.
const DIM: usize = 3840;
const WIDE: usize = 10_240;
const VALUE: usize = size_of::<f32>();

/// Tensors by name, in blocks of a pool.
struct Run {
    pool: Pool<usize>,
    live: HashMap<&'static str, (usize, usize)>,
    /// The most values that were asked for at once.
    peak: usize,
}

impl Run {
    fn new() -> Run {
        Run { pool: Pool::new(()), live: HashMap::new(), peak: 0 }
    }

    fn make(&mut self, name: &'static str, len: usize) {
        let block = self.pool.take(len);
        assert!((len..=LARGEST_FIT * len).contains(&block), "{block} for {len}");
        assert!(self.live.insert(name, (block, len)).is_none(), "{name} is there");
        self.peak = self.peak.max(self.live.values().map(|(_, len)| len).sum());
    }

    fn drop(&mut self, names: &[&'static str]) {
        for name in names {
            let (block, _) = self.live.remove(name).expect("a tensor that was made");
            self.pool.give(block);
        }
    }

    fn rename(&mut self, from: &str, to: &'static str) {
        let tensor = self.live.remove(from).expect("a tensor that was made");
        self.live.insert(to, tensor);
    }

    /// What `ModulatedBlock::forward` makes and drops, over `x` of `tokens`.
    fn block(&mut self, tokens: usize) {
        let (dim, wide) = (tokens * DIM, tokens * WIDE);
        self.make("norm", dim);
        for head in ["q", "k"] {
            self.make("linear", dim);
            self.make(head, dim);
            self.drop(&["linear"]);
        }
        self.make("v", dim);
        self.make("attended", dim);
        self.make("a", dim);
        self.drop(&["attended", "v", "k", "q", "norm"]);
        self.make("norm", dim);
        self.make("hidden", wide);
        self.make("up", wide);
        self.drop(&["up"]);
        self.make("f", dim);
        self.drop(&["hidden", "norm", "f", "a"]);
    }

    /// What `Transformer::forward` makes and drops.
    fn step(&mut self, image: usize, caption: usize) {
        self.make("patches", image * 64);
        self.make("embedded", image * DIM);
        self.drop(&["patches"]);
        self.make("x", image * DIM);
        self.drop(&["embedded"]);
        (0..2).for_each(|_| self.block(image));
        self.make("joined", (image + caption) * DIM);
        self.drop(&["x"]);
        (0..30).for_each(|_| self.block(image + caption));
        self.make("sliced", image * DIM);
        self.make("norm", image * DIM);
        self.make("out", image * 64);
        self.drop(&["norm", "sliced"]);
        self.make("velocity", image * 64);
        self.drop(&["out", "joined", "velocity"]);
    }

    /// What `vae::blocks::Resnet::forward` makes of `x` and drops.
    fn resnet(&mut self, cin: usize, cout: usize, pixels: usize) {
        self.make("h", cin * pixels);
        for _ in 0..3 {
            self.make("next", cout * pixels);
            self.drop(&["h"]);
            self.rename("next", "h");
        }
        if cin != cout {
            self.make("shortcut", cout * pixels);
            self.drop(&["shortcut"]);
        }
        self.drop(&["x"]);
        self.rename("h", "x");
    }

    /// What the decoder's levels make and drop for a picture of `side` pixels.
    fn decode(&mut self, side: usize) {
        let (mut pixels, mut cin) = ((side / 8).pow(2), 512);
        self.make("x", cin * pixels);
        for cout in [512, 512, 256, 128] {
            for resnet in 0..3 {
                self.resnet(if resnet == 0 { cin } else { cout }, cout, pixels);
            }
            cin = cout;
            if cout != 128 {
                pixels *= 4;
                self.make("wider", cout * pixels);
                self.make("next", cout * pixels);
                self.drop(&["wider", "x"]);
                self.rename("next", "x");
            }
        }
        self.drop(&["x"]);
    }
}

#[test]
fn a_loop_allocates_in_its_first_step_only() {
    for (image, caption) in [(1024, 64), (4096, 64), (4096, 224), (256, 512), (1024, 512), (16, 32)] {
        let mut run = Run::new();
        let keep = run.pool.keep();
        run.step(image, caption);
        let first = run.pool.memory_use();
        for _ in 0..8 {
            run.step(image, caption);
            assert_eq!(run.pool.memory_use(), first, "{image} + {caption} tokens");
        }
        // Wide and narrow layers lie side by side; the worst is a caption that is longer than the picture.
        let (held, bound) = (first.held_bytes, run.peak * VALUE * if caption <= image { 17 } else { 20 } / 10);
        assert!(held <= bound, "{image} + {caption} tokens: {held} bytes are held, {} are needed", run.peak * VALUE);
        drop(keep);
        run.pool.release();
        assert_eq!(run.pool.memory_use().held_bytes, 0);
    }
}

#[test]
fn a_block_holds_what_its_narrow_and_its_wide_layers_need() {
    for tokens in [1088, 4160] {
        let mut run = Run::new();
        let _keep = run.pool.keep();
        run.make("x", tokens * DIM);
        (0..4).for_each(|_| run.block(tokens));
        assert_eq!(run.pool.memory_use().held_bytes, (7 * tokens * DIM + 2 * tokens * WIDE) * VALUE);
        assert_eq!(run.pool.memory_use().allocations, 9);
    }
}

#[test]
fn two_guided_prompts_of_other_lengths_settle_too() {
    let mut run = Run::new();
    let _keep = run.pool.keep();
    let both = |run: &mut Run| [96, 32].map(|caption| run.step(1024, caption));
    both(&mut run);
    let first = run.pool.memory_use();
    both(&mut run);
    assert_eq!(run.pool.memory_use(), first);
}

#[test]
fn outside_of_a_loop_no_more_is_held_than_was_in_use_at_once() {
    for side in [512, 1024] {
        let mut run = Run::new();
        run.decode(side);
        let first = run.pool.memory_use();
        assert_eq!(first.peak_held_bytes, run.peak * VALUE, "the decoder at {side}");
        run.decode(side);
        assert_eq!(run.pool.memory_use().peak_held_bytes, first.peak_held_bytes);
        run.pool.release();
        assert_eq!(run.pool.memory_use().held_bytes, 0);
    }
}

#[test]
fn a_picture_after_the_other_starts_from_nothing() {
    let mut run = Run::new();
    let mut peaks = Vec::new();
    for _ in 0..5 {
        let keep = run.pool.keep();
        run.step(1024, 64);
        drop(keep);
        run.pool.release();
        run.decode(256);
        run.pool.release();
        assert_eq!((run.pool.memory_use().live_bytes, run.pool.memory_use().held_bytes), (0, 0));
        peaks.push(run.pool.memory_use().peak_held_bytes);
    }
    assert!(peaks.iter().all(|peak| *peak == peaks[0]), "{peaks:?}");
}

#[test]
fn memory_in_use_is_kept_and_counted_when_the_rest_is_released() {
    let pool = Pool::<usize>::new(());
    let (a, b) = (pool.take(100), pool.take(50));
    pool.give(a);
    pool.release();
    let used = pool.memory_use();
    assert_eq!((used.live_bytes, used.held_bytes, used.peak_held_bytes), (50 * VALUE, 50 * VALUE, 150 * VALUE));
    let _keep = pool.keep();
    pool.give(b);
    assert_eq!((pool.take(20), pool.take(25)), (20, 50), "20 values do not take 50");
}

#[test]
fn a_stage_between_the_steps_of_a_loop_holds_no_more_than_it_uses() {
    let mut run = Run::new();
    let _keep = run.pool.keep();
    run.step(1024, 64);
    let (loops, before) = (run.pool.memory_use(), run.peak);
    let between = run.pool.between_loops();
    assert_eq!(run.pool.memory_use().held_bytes, run.pool.memory_use().live_bytes, "what the loop left is given away");
    run.peak = 0;
    run.decode(256);
    assert_eq!(run.pool.memory_use().held_bytes, run.peak * VALUE, "as outside of loops");
    drop(between);
    run.peak = before;
    run.step(1024, 64);
    assert_eq!(run.pool.memory_use().held_bytes, loops.held_bytes, "the loop goes on as before");
}

#[test]
fn a_split_pool_has_what_was_free_and_gives_nothing_away() {
    let pool = Pool::<usize>::new(());
    let _keep = pool.keep();
    let (a, b, c) = (pool.take(100), pool.take(60), pool.take(30));
    pool.give(a);
    pool.give(b);
    let split = pool.split(());
    let held = |pool: &Pool<usize>| pool.memory_use().held_bytes / VALUE;
    assert_eq!((held(&pool), held(&split)), (30, 160));
    assert_eq!((pool.take(60), split.take(60)), (60, 60));
    // In a loop 120 values would take the place of 100, and 40 would fit only what is not twice as large.
    for len in [120, 40] {
        let block = split.take(len);
        assert_eq!(block, len);
        split.give(block);
    }
    split.release();
    assert_eq!((held(&split), split.take(110)), (320, 120), "nothing was given away");
    assert_eq!(split.take_free().len(), 2);
    assert_eq!(held(&split), 180, "what is in use stays");
    split.give(60);
    split.release();
    assert_eq!(held(&split), 120, "it does as others do");
    pool.give(c);
    pool.release();
    assert_eq!(held(&pool), 60);
}
