//! Device memory: what a tensor's values are on a GPU, in memory of a pool to which it goes back on drop.

use super::driver::{Address, Driver, Element};
use super::recorder::Recorder;
use super::timed::{Span, Timed};
use crate::meter::{Kind, Work};
use crate::pool::{Block, Pool};
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A driver, and the first thing that went wrong with it. From then on nothing is put into its queue, and whoever asks
/// is told: a GPU tells of errors late, and operations have no way to fail.
#[derive(Debug)]
pub struct Port {
    driver: Arc<dyn Driver>,
    failure: Mutex<Option<Arc<Error>>>,
    timed: Timed,
    /// Words of memory that were asked for and not given back, by all ports of the device.
    words: Arc<AtomicUsize>,
    /// Of a port that records: the one that it was made of, to which all goes once the recording is over.
    origin: Option<Arc<Port>>,
    is_over: AtomicBool,
}

impl Port {
    /// A port to a driver that works.
    pub fn new(driver: Box<dyn Driver>) -> Port {
        Port::over(driver.into(), Arc::default(), None)
    }

    fn over(driver: Arc<dyn Driver>, words: Arc<AtomicUsize>, origin: Option<Arc<Port>>) -> Port {
        let (failure, timed, is_over) = (Mutex::default(), Timed::default(), AtomicBool::new(false));
        Port { driver, failure, timed, words, origin, is_over }
    }

    /// A port to the same device whose work is taken down and not done, until [`Port::end_recording`]. What goes wrong
    /// meanwhile is its own.
    pub fn recording(self: &Arc<Port>) -> (Port, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::new(self.current().driver.clone()));
        (Port::over(recorder.clone(), self.words.clone(), Some(self.clone())), recorder)
    }

    /// From now on it is the port that it was made of.
    pub fn end_recording(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether work is taken down and not done.
    pub fn is_recording(&self) -> bool {
        self.origin.is_some() && !self.is_over.load(Ordering::Relaxed)
    }

    /// Where all goes now.
    fn current(&self) -> &Port {
        match &self.origin {
            Some(origin) if !self.is_recording() => origin.current(),
            _ => self,
        }
    }

    /// Whether both lead to one device.
    pub fn is_of_same_device(&self, other: &Port) -> bool {
        Arc::ptr_eq(&self.words, &other.words)
    }

    /// The driver, for what cannot fail.
    pub fn driver(&self) -> &dyn Driver {
        &*self.current().driver
    }

    /// Bytes of memory that were asked for and not given back.
    pub fn held_bytes(&self) -> u64 {
        4 * self.words.load(Ordering::Relaxed) as u64
    }

    /// Does something unless an earlier thing failed; `None` when it did or this does.
    pub fn attempt<T>(&self, work: impl FnOnce(&dyn Driver) -> Result<T>) -> Option<T> {
        let Port { driver, failure, .. } = self.current();
        if failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return None;
        }
        match work(&**driver) {
            Ok(value) => Some(value),
            Err(error) => {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::new(error));
                None
            }
        }
    }

    /// Does some work, and counts it, unless it is taken down: it has no time of its own then.
    pub fn measure<T>(&self, kind: Kind, flop: f64, work: impl FnOnce() -> T) -> T {
        if self.is_recording() {
            return work();
        }
        let from = self.attempt(|driver| driver.mark());
        let result = work();
        let to = self.attempt(|driver| driver.mark());
        if let Some((from, to)) = from.zip(to) {
            self.current().timed.add(self, Span { kind, flop, from, to });
        }
        result
    }

    /// The work of a kind so far; waits for it.
    pub fn work(&self, kind: Kind) -> Work {
        self.current().timed.work(self, kind)
    }

    /// What went wrong first.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.current().failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note that somebody was told; work is possible again where the device still is.
    pub fn take_failure(&self) -> Option<Arc<Error>> {
        self.current().failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Device memory in words of four bytes, which may be more than what is made of it.
#[derive(Debug)]
pub struct Memory {
    address: Address,
    words: usize,
    port: Arc<Port>,
}

impl Memory {
    /// Memory that is not the pool's, since it stays. If the device has none left, `give_back` gives back what is free;
    /// what then fails is kept by the port.
    pub fn beside(port: &Arc<Port>, bytes: usize, give_back: impl FnOnce()) -> Memory {
        let first = port.failure().is_none().then(|| port.driver().allocate(bytes).ok()).flatten();
        let address = first.or_else(|| {
            give_back();
            port.attempt(|driver| driver.allocate(bytes))
        });
        Memory::at(address, bytes.div_ceil(4), port)
    }

    fn at(address: Option<Address>, words: usize, port: &Arc<Port>) -> Memory {
        let memory = Memory { address: address.unwrap_or_default(), words, port: port.clone() };
        if memory.is_there() {
            port.words.fetch_add(words, Ordering::Relaxed);
        }
        memory
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Block for Memory {
    type Source = Arc<Port>;

    fn allocate(port: &Arc<Port>, words: usize) -> Memory {
        Memory::at(port.attempt(|driver| driver.allocate(words.max(1) * 4)), words, port)
    }

    fn len(&self) -> usize {
        self.words
    }

    fn is_there(&self) -> bool {
        self.address != Address::default()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.is_there() {
            self.port.driver().free(self.address);
            self.port.words.fetch_sub(self.words, Ordering::Relaxed);
        }
    }
}

/// Values in device memory.
#[derive(Debug)]
pub struct Buffer {
    memory: Option<Memory>,
    element: Element,
    len: usize,
    home: Pool<Memory>,
}

impl Buffer {
    /// `len` values that are not specified: an operation that takes them must write them all.
    pub fn take(pool: &Pool<Memory>, element: Element, len: usize) -> Buffer {
        let words = (len * element.bytes()).div_ceil(4);
        Buffer { memory: Some(pool.take(words)), element, len, home: pool.clone() }
    }

    /// Where the first value is.
    pub fn address(&self) -> Address {
        self.memory.as_ref().map_or(Address::default(), |memory| memory.address)
    }

    /// How the values lie.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Forgets the values from the `len`-th on; the memory stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.give(memory);
        }
    }
}
