//! Texts of C libraries.
#![allow(unsafe_code, reason = "reads C strings")]

use super::symbols::Status;
use std::ffi::{CStr, c_char};

/// A text in an array, up to its first zero.
pub fn of_chars(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|char| *char as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A status for people: its name and what it means, as far as the library knows.
///
/// # Safety
/// Both pointers are null or C strings.
pub unsafe fn of_error(status: Status, name: *const c_char, text: *const c_char) -> String {
    // SAFETY: as asked of the caller.
    let [name, text] = [name, text].map(|text| unsafe { of_pointer(text) });
    match (name, text) {
        (Some(name), Some(text)) => format!("{name}: {text}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => format!("unknown error {status}"),
    }
}

/// A C string, or none for null.
///
/// # Safety
/// The pointer is null or a C string.
unsafe fn of_pointer(text: *const c_char) -> Option<String> {
    // SAFETY: as asked of the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
