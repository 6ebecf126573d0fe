//! A bucket in memory, which does wrong on purpose.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

/// What becomes of the next upload.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The object is stored, and the reply lost.
    ReplyLost,
    /// The object is stored, and the reply never comes.
    ReplyHeld,
    /// Nothing is stored.
    Status(u16),
}

#[derive(Clone, Debug)]
pub struct Object {
    pub key: String,
    pub last: u64,
    pub content: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct Bucket(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Uploads, whatever became of them.
    uploads: u64,
    faults: VecDeque<Fault>,
    bytes_max: Option<usize>,
}

impl Bucket {
    pub fn connector(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    pub fn next(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// From now on larger bodies are refused.
    pub fn take_at_most(&self, bytes: usize) {
        self.lock().bytes_max = Some(bytes);
    }

    /// In the order of their keys.
    pub fn objects(&self) -> Vec<Object> {
        self.lock().objects.values().cloned().collect()
    }

    pub fn uploads(&self) -> u64 {
        self.lock().uploads
    }

    /// The identities of all records, sorted; a record that is there twice is there twice.
    pub fn records(&self) -> Vec<(String, u64)> {
        let mut records: Vec<_> = self.objects().iter().flat_map(Object::records).collect();
        records.sort();
        records
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test has panicked here")
    }
}

impl Object {
    /// The run and position of each record.
    pub fn records(&self) -> Vec<(String, u64)> {
        let mut text = String::new();
        match self.key.rsplit_once('.').expect("an extension").1 {
            "zst" => zstd::Decoder::new(&self.content[..]).and_then(|mut lines| lines.read_to_string(&mut text)),
            "gz" => flate2::read::GzDecoder::new(&self.content[..]).read_to_string(&mut text),
            _ => return self.rows(),
        }
        .expect("in the format that its name says");
        let record = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let run = record["run"].as_str().expect("a run").to_owned();
            (run, record["position"].as_u64().expect("a position"))
        };
        text.lines().map(record).collect()
    }

    fn rows(&self) -> Vec<(String, u64)> {
        let file = SerializedFileReader::new(bytes::Bytes::from(self.content.clone())).expect("a file of columns");
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let column = |name| schema.columns().iter().position(|column| column.name() == name).expect("a column");
        let (run, position) = (column("run"), column("position"));
        let record = |row: parquet::record::Row| {
            let run = row.get_string(run).expect("a text").clone();
            (run, row.get_long(position).expect("a number").cast_unsigned())
        };
        file.get_row_iter(None).expect("rows").map(|row| record(row.expect("a row"))).collect()
    }
}

impl HttpConnector for Bucket {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let bucket = self.clone();
        HttpConnectorFuture::new(async move {
            let key = request.uri().to_owned();
            let (method, last) =
                (request.method().to_owned(), request.headers().get("x-amz-meta-last").map(str::to_owned));
            let content = request.into_body().collect().await.map_err(ConnectorError::user)?.to_bytes().to_vec();
            match bucket.answer(&method, key, last, content) {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        })
    }
}

impl Bucket {
    /// `None`: nothing comes.
    fn answer(
        &self,
        method: &str,
        key: String,
        last: Option<String>,
        content: Vec<u8>,
    ) -> Option<Result<HttpResponse, ConnectorError>> {
        let mut state = self.lock();
        if method == "HEAD" {
            let Some(object) = state.objects.get(&key) else { return Some(Ok(response(404))) };
            let mut found = response(200);
            found.headers_mut().insert("x-amz-meta-last", object.last.to_string());
            return Some(Ok(found));
        }
        state.uploads += 1;
        let fault = state.faults.pop_front();
        if let Some(Fault::Status(status)) = fault {
            return Some(Ok(response(status)));
        }
        if state.bytes_max.is_some_and(|bytes_max| content.len() > bytes_max) {
            return Some(Ok(response(413)));
        }
        if state.objects.contains_key(&key) {
            return Some(Ok(response(412)));
        }
        let last = last.and_then(|last| last.parse().ok()).expect("each upload says where it ends");
        state.objects.insert(key.clone(), Object { key, last, content });
        match fault {
            Some(Fault::ReplyHeld) => None,
            Some(Fault::ReplyLost) => {
                Some(Err(ConnectorError::io(io::Error::from(io::ErrorKind::ConnectionReset).into())))
            }
            _ => {
                let mut stored = response(200);
                stored.headers_mut().insert("etag", "\"1\"");
                Some(Ok(stored))
            }
        }
    }
}

fn response(status: u16) -> HttpResponse {
    HttpResponse::new(status.try_into().expect("a status"), SdkBody::empty())
}
