//! Pictures that say how they were made.

use zimage::pipeline::metadata::{Embedded, Metadata};

/// Reads the metadata of a PNG, JPEG or WebP file; a text is also read as the record itself.
pub fn metadata(bytes: &[u8]) {
    let embedded = Embedded::from_image_bytes("hostile", bytes).ok().flatten();
    let record = std::str::from_utf8(bytes).ok().and_then(|text| Metadata::from_json(text).ok());
    for metadata in embedded.and_then(|embedded| embedded.metadata).into_iter().chain(record) {
        let _ = metadata.to_parameters();
        let json = metadata.to_canonical_json();
        let back = Metadata::from_json(&json).expect("a record reads back");
        assert_eq!(back.to_canonical_json(), json);
    }
}
