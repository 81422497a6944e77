//! A relay's blob interface over memory: enough for the pod, and faults on request.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tradewind_gateway_api::wire;
use tradewind_result::ContentDigest;

/// Blobs by their name in a path.
#[derive(Clone)]
pub struct Store {
    pub address: SocketAddr,
    blobs: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    refuse_uploads: Arc<AtomicBool>,
    redirects: Arc<Mutex<HashMap<String, String>>>,
}

impl Store {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: listener.local_addr().unwrap(),
            blobs: Arc::default(),
            refuse_uploads: Arc::default(),
            redirects: Arc::default(),
        };
        let served = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = served.clone();
                // A pod that is killed breaks its connections.
                std::thread::spawn(move || drop(store.serve(&stream)));
            }
        });
        store
    }

    pub fn put(&self, bytes: Vec<u8>) -> ContentDigest {
        let digest = ContentDigest::of(&bytes);
        self.blobs.lock().unwrap().insert(wire::blob_name(&digest), bytes);
        digest
    }

    /// Has the relay answer a GET of `path` with these bytes.
    pub fn put_at(&self, path: &str, bytes: Vec<u8>) {
        self.blobs.lock().unwrap().insert(path.to_owned(), bytes);
    }

    pub fn get(&self, digest: &ContentDigest) -> Vec<u8> {
        self.blobs.lock().unwrap()[&wire::blob_name(digest)].clone()
    }

    /// Sends whoever asks for what is below `prefix` to another address.
    pub fn redirect(&self, prefix: &str, to: &str) {
        self.redirects
            .lock()
            .unwrap()
            .insert(prefix.to_owned(), to.to_owned());
    }

    /// Answers uploads with 503 from now on, or no longer.
    pub fn refuse_uploads(&self, refuse: bool) {
        self.refuse_uploads.store(refuse, Ordering::SeqCst);
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let path = request.split_whitespace().nth(1).unwrap_or_default();
            let redirects = self.redirects.lock().unwrap();
            let to = redirects.iter().find(|(prefix, _)| path.starts_with(*prefix));
            let to = to.map(|(_, to)| to.clone());
            drop(redirects);
            if let Some(to) = to {
                let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
                (&*stream).write_all(head.as_bytes())?;
                continue;
            }
            let (status, answer) = self.answer(&request, body);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
            (&*stream).write_all(&[head.as_bytes(), &answer].concat())?;
        }
    }

    fn answer(&self, request: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let name = path.rsplit('/').next().unwrap();
        match method {
            "GET" if path.starts_with("/v1/uploads/") => {
                let state = format!(r#"{{"digest":"0x{name}","offset":0,"complete":false}}"#);
                ("200 OK", state.into_bytes())
            }
            "GET" => match self.blobs.lock().unwrap() {
                blobs if blobs.contains_key(path) => ("200 OK", blobs[path].clone()),
                blobs if blobs.contains_key(name) => ("200 OK", blobs[name].clone()),
                _ => (
                    "404 Not Found",
                    br#"{"reason":"NotFound","message":"no such blob","remedy":""}"#.to_vec(),
                ),
            },
            "PUT" if self.refuse_uploads.load(Ordering::SeqCst) => (
                "503 Service Unavailable",
                br#"{"reason":"Unavailable","message":"down","remedy":""}"#.to_vec(),
            ),
            "PUT" => {
                let (bytes, digest) = (body.len(), self.put(body));
                assert_eq!(wire::blob_name(&digest), name);
                (
                    "200 OK",
                    format!(r#"{{"digest":"{digest}","bytes":{bytes}}}"#).into_bytes(),
                )
            }
            _ => ("405 Method Not Allowed", Vec::new()),
        }
    }
}
