//! A running `zimage serve`, and a client that knows just enough of HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Home;

/// Longer than any test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens, as in `127.0.0.1:7860`.
    pub address: String,
    /// What requests are authorized by.
    pub token: Option<String>,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    pub fn start(home: &Home, args: &[&str]) -> Server {
        let mut command = home.command(&[&["serve", "--port", "0"], args].concat());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended: {said}");
            if let Some(address) = line.trim().strip_prefix("listening on http://") {
                break address.to_owned();
            }
            said += &line;
        };
        Server { child, address, token: None, stderr }
    }

    /// Status and body of a request, or nothing when the server is gone.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let address = &self.address;
        let length = body.len();
        let authorization = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        let authorization = authorization.unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             {authorization}content-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        let body = answer.split_off(split + 4);
        let body = if head.contains("transfer-encoding: chunked") { dechunked(&body)? } else { body };
        Some((status, body))
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (status, body) = self.request(method, path, &text)?;
        Some((status, serde_json::from_slice(&body).ok()?))
    }

    pub fn job(&self, id: &str) -> Value {
        let (status, job) = self.json("GET", &format!("/api/v1/jobs/{id}"), &Value::Null).unwrap();
        assert_eq!(status, 200, "{job}");
        job
    }

    /// Waits for the end of a job.
    pub fn end_of(&self, id: &str) -> Value {
        let started = Instant::now();
        loop {
            let job = self.job(id);
            if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "{job}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in bytes, where the system tells.
    pub fn memory(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Ends the server, and gives what it has said since it listens.
    pub fn said(mut self) -> String {
        self.child.kill().unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        said
    }

    /// Waits for the process to end by itself.
    pub fn ended(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the server goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dechunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(end + 2..end + 2 + length)?);
        body = body.get(end + 4 + length..)?;
    }
}
