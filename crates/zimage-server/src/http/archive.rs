//! A ZIP file of pictures, made while it is sent: one picture in memory at a time, and no thread kept while a slow client
//! takes what it has.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::moment::Moment;
use crate::job::{ImageRecord, Millis};
use crate::refusal::Refusal;
use crate::service::{Service, locked};

/// The archive of these pictures. One that has gone since is an error, and the client sees a broken download.
pub fn archive(service: Arc<Service>, images: Vec<ImageRecord>) -> Body {
    let out = Out::default();
    let writer = ZipWriter::new_stream(out.clone());
    let start = Some(Archive { service, images: images.into_iter(), writer, out, names: BTreeSet::new() });
    Body::from_stream(stream::try_unfold(start, |archive| async move {
        match archive {
            Some(archive) => archive.next().await.map(Some),
            None => Ok(None),
        }
    }))
}

struct Archive {
    service: Arc<Service>,
    images: std::vec::IntoIter<ImageRecord>,
    writer: ZipWriter<StreamWriter<Out>>,
    out: Out,
    names: BTreeSet<String>,
}

/// What was written since it was last taken.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    /// The next piece of the file, and the archive unless that was the last.
    async fn next(mut self) -> Result<(Bytes, Option<Archive>), Refusal> {
        let service = Arc::clone(&self.service);
        service
            .run(move |service| {
                let Some(image) = self.images.next() else {
                    self.writer.finish().map_err(Refusal::internal)?;
                    return Ok((self.out.take(), None));
                };
                self.add(service, &image)?;
                Ok((self.out.take(), Some(self)))
            })
            .await
    }

    fn add(&mut self, service: &Service, image: &ImageRecord) -> Result<(), Refusal> {
        let name = name(image);
        if !self.names.insert(name.clone()) {
            return Ok(());
        }
        let bytes = service.files().image(&image.sha256, image.format).map_err(Refusal::internal)?;
        let bytes = bytes.ok_or(Refusal::NotFound { what: "picture" })?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let options = options.last_modified_time(zip_time(image.created_ms)).unix_permissions(0o644);
        self.writer.start_file(name, options).map_err(Refusal::internal)?;
        self.writer.write_all(&bytes).map_err(Refusal::internal)
    }
}

impl Out {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *locked(&self.0)).into()
    }
}

/// `<time>-<seed>-<8 hexadecimal digits>.<extension>`.
fn name(image: &ImageRecord) -> String {
    let Moment { year, month, day, hour, minute, second } = Moment::of(image.created_ms);
    let digits = image.sha256.as_str().get(..8).unwrap_or_default();
    let extension = image.format.extension();
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{}-{digits}.{extension}", image.seed)
}

/// ZIP knows the years 1980 to 2107.
fn zip_time(ms: Millis) -> DateTime {
    let Moment { year, month, day, hour, minute, second } = Moment::of(ms);
    let year = u16::try_from(year).unwrap_or(u16::MAX);
    DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
}
