//! Addresses of pictures that are good without a key, for a while: clients of OpenAI's API hand them on to whatever shows
//! the picture. They name their end, and are signed with a key that lives no longer than the process.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::refusal::Refusal;

/// OpenAI's addresses are good for as long.
const GOOD_FOR_S: u64 = 3600;

/// Signs addresses, and knows them again.
pub struct Links(Hmac<Sha256>);

impl Links {
    /// With a key that nobody else has.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Links, Refusal> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Refusal::internal)?;
        Ok(Links(Hmac::new_from_slice(&key).map_err(Refusal::internal)?))
    }

    /// The query that makes a path good from now on.
    pub fn query(&self, path: &str, now_s: u64) -> String {
        let end_s = now_s + GOOD_FOR_S;
        let signature: String = self.sign(path, end_s).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("exp={end_s}&sig={signature}")
    }

    /// Whether this is a query of ours for this path, and still good.
    pub fn is_good(&self, path: &str, query: &str, now_s: u64) -> bool {
        let field = |name| query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        let (Some((_, end)), Some((_, signature))) = (field("exp"), field("sig")) else { return false };
        let (Ok(end_s), Some(signature)) = (end.parse::<u64>(), bytes(signature)) else { return false };
        now_s < end_s && self.mac(path, end_s).verify_slice(&signature).is_ok()
    }

    fn sign(&self, path: &str, end_s: u64) -> [u8; 32] {
        self.mac(path, end_s).finalize().into_bytes().into()
    }

    fn mac(&self, path: &str, end_s: u64) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&end_s.to_be_bytes());
        mac.update(path.as_bytes());
        mac
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests;
