//! A small web server for static files on this machine: GET and HEAD, no lists of folders, strict headers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// The policy of the page, as in its `<meta>`, with the parts that only a header can say.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
    img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Longest request head that is read, in bytes.
const HEAD_BYTES: u64 = 16 << 10;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Content type.
    pub kind: &'static str,
    /// Body.
    pub body: Vec<u8>,
}

/// A server on a thread of its own; it ends with the program.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `dir` below the path `prefix` (`/` or `/some/folder/`) on 127.0.0.1; port 0 picks a free one.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(dir: &Path, prefix: &str, port: u16) -> Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("port {port} of localhost cannot be used"))?;
        let address = listener.local_addr()?;
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (dir, prefix, shared) = (dir.to_path_buf(), prefix.to_string(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (dir, prefix, log) = (dir.clone(), prefix.clone(), shared.clone());
                std::thread::spawn(move || answer(&stream, &dir, &prefix, &log));
            }
        });
        Ok(Server { address, log })
    }
    /// Paths asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection that breaks is the browser's business.
fn answer(stream: &TcpStream, dir: &Path, prefix: &str, log: &Mutex<Vec<String>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut lines = BufReader::new(stream.take(HEAD_BYTES)).lines();
    let Some(Ok(first)) = lines.next() else { return };
    // The rest of the head says nothing that matters here, but it has to be read.
    while let Some(Ok(line)) = lines.next() {
        if line.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    log.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_string());
    let reply = reply(dir, prefix, method, target);
    let _ = send(stream, &reply, method == "HEAD");
}

fn send(mut stream: &TcpStream, reply: &Reply, head_only: bool) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {} \r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-cache\r\n\
         Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Permissions-Policy: camera=(self)\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Cross-Origin-Embedder-Policy: require-corp\r\n\r\n",
        reply.status,
        reply.kind,
        reply.body.len()
    );
    stream.write_all(head.as_bytes())?;
    if head_only { Ok(()) } else { stream.write_all(&reply.body) }
}

/// The answer to a request for `target` where `dir` is served below `prefix`.
pub fn reply(dir: &Path, prefix: &str, method: &str, target: &str) -> Reply {
    let text = |status, body: &str| Reply { status, kind: "text/plain; charset=utf-8", body: body.into() };
    if method != "GET" && method != "HEAD" {
        return text(405, "only GET and HEAD");
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Some(inside) = path.strip_prefix(prefix) else { return text(404, "no such file") };
    let inside = if inside.is_empty() || inside.ends_with('/') {
        format!("{inside}index.html")
    } else {
        inside.into()
    };
    let plain = Path::new(&inside).components().all(|c| matches!(c, Component::Normal(_)));
    let file: PathBuf = dir.join(&inside);
    // Names with escapes do not occur among our files.
    if !plain || inside.contains(['%', '\\']) || !file.is_file() {
        return text(404, "no such file");
    }
    match std::fs::read(&file) {
        Ok(body) => Reply { status: 200, kind: kind(&inside), body },
        Err(e) => text(500, &e.to_string()),
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("index.html"), "page").unwrap();
        std::fs::write(dir.path().join("a/b.wasm"), "module").unwrap();
        let get = |target: &str| reply(dir.path(), "/sub/", "GET", target);
        assert_eq!(get("/sub/").body, b"page");
        assert_eq!(get("/sub/?x=1").kind, "text/html; charset=utf-8");
        assert_eq!(get("/sub/a/b.wasm").kind, "application/wasm");
        for target in
            ["/", "/index.html", "/sub/../sub/index.html", "/sub//etc/passwd", "/sub/a", "/sub/%61/b.wasm"]
        {
            assert_eq!(get(target).status, 404, "{target}");
        }
        assert_eq!(reply(dir.path(), "/", "POST", "/index.html").status, 405);
    }
}
