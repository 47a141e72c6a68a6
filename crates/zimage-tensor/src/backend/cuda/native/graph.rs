//! Recorded work as one of the driver's graphs, which is put into a queue by a single call.
#![allow(unsafe_code, reason = "calls the driver")]

use super::context::{Context, Stream};
use crate::Result;
use cudarc::driver::sys::{CUgraph, CUgraphExec, CUstreamCaptureMode};
use std::ptr;
use std::sync::Arc;

/// A graph that is ready to be launched. Its work is done one after the other, as it was put into a queue.
#[derive(Debug)]
pub struct Graph {
    context: Arc<Context>,
    raw: CUgraphExec,
}

// SAFETY: a graph may be launched from any thread; the driver wants only that no two do so at once, and whoever has it
// holds a lock meanwhile.
unsafe impl Send for Graph {}

impl Graph {
    /// Of what `put` puts into a queue, which does none of it.
    pub fn of(context: &Arc<Context>, put: impl FnOnce(&Stream) -> Result<()>) -> Result<Graph> {
        // A queue of its own: what other threads put into that of the work is not recorded.
        let stream = Stream::new(context)?;
        let calls = context.enter()?;
        // The others forbid calls that this thread, or all of them, may make meanwhile, such as allocating memory.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the queue is ours.
        context.check(unsafe { (calls.cuStreamBeginCapture_v2)(stream.raw(), mode) }, "cuStreamBeginCapture")?;
        let put = put(&stream);
        let mut graph = ptr::null_mut();
        // SAFETY: the queue is ours; writes to a handle of ours, which stays null where the capture has failed.
        let status = unsafe { (calls.cuStreamEndCapture)(stream.raw(), &mut graph) };
        let captured = Captured { context, raw: graph };
        put.and_then(|()| context.check(status, "cuStreamEndCapture"))?;
        captured.instantiate()
    }

    /// Puts all of it into a queue.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        let calls = self.context.enter()?;
        // SAFETY: both handles are alive, and of one context.
        self.context.check(unsafe { (calls.cuGraphLaunch)(self.raw, stream.raw()) }, "cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let calls = self.context.enter_to_drop();
        // SAFETY: the handle is ours and nobody has it any longer; what is being done of it is done first.
        unsafe { (calls.cuGraphExecDestroy)(self.raw) };
    }
}

/// What was captured, which is no longer needed when it is instantiated.
struct Captured<'a> {
    context: &'a Arc<Context>,
    raw: CUgraph,
}

impl Captured<'_> {
    fn instantiate(&self) -> Result<Graph> {
        let calls = self.context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the graph is alive; writes to a handle of ours.
        let status = unsafe { (calls.cuGraphInstantiateWithFlags)(&mut raw, self.raw, 0) };
        self.context.check(status, "cuGraphInstantiate")?;
        Ok(Graph { context: self.context.clone(), raw })
    }
}

impl Drop for Captured<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            let calls = self.context.enter_to_drop();
            // SAFETY: the handle is ours; what was instantiated of it is a graph of its own.
            unsafe { (calls.cuGraphDestroy)(self.raw) };
        }
    }
}
