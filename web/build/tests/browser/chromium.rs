//! A small client of the DevTools protocol: starts a headless Chromium, opens pages, evaluates, types, clicks, waits.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Names under which the browser is installed.
const PROGRAMS: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"];
/// Longest wait for an answer of the browser itself.
const ANSWER: Duration = Duration::from_secs(300);

/// WebGPU on the software adapter.
pub const WEBGPU: [&str; 2] = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/// The same where a canvas is drawn with WebGPU: its pictures are shared with the browser through a Vulkan of software.
/// Without that the browser has no place for them, and takes the device away at the first one.
pub const WEBGPU_CANVAS: [&str; 7] = [
    WEBGPU[0],
    WEBGPU[1],
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
];

/// The browser's program, or nothing; `BEIT_CHROMIUM` names one.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("BEIT_CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|dir| PROGRAMS.map(|p| dir.join(p))).find(|p| p.is_file())
}

/// A running browser with one page; killed when dropped.
pub struct Chromium {
    child: Child,
    profile: tempfile::TempDir,
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    /// What a proxy for all but localhost was asked for, errands of the browser itself left out.
    pub foreign: Arc<Mutex<Vec<String>>>,
    /// Addresses elsewhere that the page itself asked for.
    pub asked: Vec<String>,
    /// Messages of the page's console that are errors, and exceptions.
    pub errors: Vec<String>,
    /// Events of a trace, and whether all of them are here.
    trace: (Vec<Value>, bool),
}

/// A task of a page's own thread, in milliseconds. On a busy machine the clock says little: the thread also waits for a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    /// On the processor.
    pub cpu: f64,
    /// By the clock.
    pub wall: f64,
}

impl Chromium {
    /// Starts the browser with further flags. Every request that is not for localhost goes to a listener that only
    /// writes it down.
    pub fn start(program: &Path, flags: &[&str]) -> Chromium {
        let foreign: Arc<Mutex<Vec<String>>> = Arc::default();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = proxy.local_addr().unwrap().port();
        let log = foreign.clone();
        std::thread::spawn(move || {
            for stream in proxy.incoming().flatten() {
                let mut line = String::new();
                let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line);
                if !is_errand(&line) {
                    log.lock().unwrap().push(line.trim().to_string());
                }
            }
        });
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .args([
                "--headless=new",
                "--remote-debugging-port=0",
                "--no-first-run",
                "--no-default-browser-check",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args([
                "--disable-default-apps",
                "--disable-domain-reliability",
                "--disable-client-side-phishing-detection",
            ])
            .args([
                "--disable-features=OptimizationHints,MediaRouter,Translate",
                "--mute-audio",
                "--hide-scrollbars",
            ])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg(format!("--proxy-server=http://127.0.0.1:{port}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(flags)
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Its sandbox refuses to run as root, as in containers.
        if std::env::var("USER").is_ok_and(|u| u == "root")
            || std::env::var("HOME").is_ok_and(|h| h == "/root")
        {
            command.arg("--no-sandbox");
        }
        let child = command.spawn().expect("the browser starts");
        let socket = connect(&profile.path().join("DevToolsActivePort"));
        let mut browser = Chromium {
            child,
            profile,
            socket,
            session: String::new(),
            next: 0,
            foreign,
            asked: vec![],
            errors: vec![],
            trace: (vec![], false),
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().into();
        for domain in ["Page", "Runtime", "DOM", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method and returns its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Calls a method; an error is what the browser says, such as that the page went away in the meantime.
    fn try_call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        let of_the_browser = ["Target.", "Browser.", "Tracing."].iter().any(|d| method.starts_with(d));
        if !self.session.is_empty() && !of_the_browser {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).expect("the browser listens");
        let until = Instant::now() + ANSWER;
        loop {
            assert!(Instant::now() < until, "no answer to {method}");
            let Message::Text(text) = self.socket.read().expect("the browser answers") else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == json!(id) {
                return match answer.get("error") {
                    None => Ok(answer["result"].clone()),
                    Some(e) => Err(e.to_string()),
                };
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Tracing.dataCollected") => {
                self.trace.0.extend(params["value"].as_array().into_iter().flatten().cloned());
            }
            Some("Tracing.tracingComplete") => self.trace.1 = true,
            Some("Runtime.exceptionThrown") => self.errors.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let here = ["http://127.0.0.1:", "data:", "blob:http://127.0.0.1:", "about:"];
                if !here.iter().any(|h| url.starts_with(h)) {
                    self.asked.push(url.to_string());
                }
            }
            _ => {}
        }
    }

    /// Begins to write down the tasks of all threads.
    pub fn trace_tasks(&mut self) {
        self.trace = (vec![], false);
        let config = json!({"includedCategories": ["toplevel", "blink.user_timing"]});
        self.call("Tracing.start", json!({"transferMode": "ReportEvents", "traceConfig": config}));
    }

    /// The tasks of the page's own thread since [`Chromium::trace_tasks`], those that took most of the processor first. The
    /// browser has pages of its own, which do not count; a mark tells which thread is ours.
    pub fn traced_tasks(&mut self) -> Vec<Task> {
        self.value("(performance.mark('thread of the page'), 1)");
        self.call("Tracing.end", json!({}));
        while !self.trace.1 {
            let Message::Text(text) = self.socket.read().expect("the browser answers") else { continue };
            self.note(&serde_json::from_str(&text).unwrap());
        }
        let events = std::mem::take(&mut self.trace.0);
        let thread = |e: &Value| (e["pid"].as_u64(), e["tid"].as_u64());
        let ours = events.iter().find(|e| e["name"] == "thread of the page").map(thread);
        let tasks = events.iter().filter(|e| e["name"] == "ThreadControllerImpl::RunTask");
        let ms = |e: &Value, key: &str| e[key].as_f64().map(|us| us / 1000.0);
        let task = |e: &Value| Some(Task { cpu: ms(e, "tdur")?, wall: ms(e, "dur")? });
        let mut all: Vec<Task> = tasks.filter(|e| Some(thread(e)) == ours).filter_map(task).collect();
        all.sort_by(|a, b| b.cpu.total_cmp(&a.cpu));
        all
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'", 30);
    }

    /// The value of an expression or promise.
    ///
    /// # Errors
    /// What it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let result = self.try_call("Runtime.evaluate", params)?;
        match result.get("exceptionDetails") {
            None => Ok(result["result"]["value"].clone()),
            Some(e) => Err(e["exception"]["description"].as_str().unwrap_or(&e.to_string()).to_string()),
        }
    }

    /// As [`Chromium::evaluate`], failing the test.
    pub fn value(&mut self, expression: &str) -> Value {
        self.evaluate(expression).unwrap_or_else(|e| panic!("{expression}\n{e}"))
    }

    /// Waits until an expression is true, at most `seconds`.
    pub fn wait(&mut self, expression: &str, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while self.evaluate(expression) != Ok(json!(true)) {
            if Instant::now() > until {
                let said = self.evaluate("document.getElementById('status')?.textContent");
                panic!("not within {seconds} s: {expression}\nstatus: {said:?}\nconsole: {:?}", self.errors);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses, drags over and releases the left button at points of the page, in CSS pixels.
    pub fn drag(&mut self, points: &[(f64, f64)]) {
        let mut event = |kind: &str, (x, y): (f64, f64), buttons: u32| {
            let params = json!({
                "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", params);
        };
        event("mousePressed", points[0], 1);
        points.iter().skip(1).for_each(|p| event("mouseMoved", *p, 1));
        event("mouseReleased", points[points.len() - 1], 0);
    }

    /// Touches a point.
    pub fn tap(&mut self, (x, y): (f64, f64)) {
        self.call(
            "Input.dispatchTouchEvent",
            json!({"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}),
        );
        self.call("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []}));
    }

    /// Presses a key.
    pub fn key(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if key == " " && kind == "keyDown" {
                params["text"] = json!(" ");
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Gives files to a file input.
    pub fn upload(&mut self, selector: &str, files: &[&Path]) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let node =
            self.call("DOM.querySelector", json!({"nodeId": root, "selector": selector}))["nodeId"].clone();
        self.call("DOM.setFileInputFiles", json!({"nodeId": node, "files": files}));
    }

    /// Sets window size and colour scheme.
    pub fn resize(&mut self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// A picture of the whole page at a window size and colour scheme.
    pub fn screenshot(&mut self, file: &Path, size: (u32, u32), scheme: &str) {
        self.resize(size, scheme);
        std::thread::sleep(Duration::from_millis(200));
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", params);
        std::fs::write(file, base64(picture["data"].as_str().unwrap())).unwrap();
    }

    /// Kills the process that talks to the graphics driver; Linux only.
    pub fn kill_gpu_process(&self) {
        let ours = format!("--user-data-dir={}", self.profile.path().display());
        let mut killed = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("--type=gpu-process") && line.contains(&ours) {
                let pid = entry.file_name().to_string_lossy().into_owned();
                killed +=
                    u32::from(Command::new("kill").args(["-9", &pid]).status().is_ok_and(|s| s.success()));
            }
        }
        assert!(killed > 0, "no GPU process found");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a request is the browser's own: time, updates, accounts. No switch turns all of them off.
fn is_errand(line: &str) -> bool {
    let target = line.split(' ').nth(1).unwrap_or_default();
    let host = target.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default();
    ["google.com", "googleapis.com", "gvt1.com", "gstatic.com", "microsoft.com", "msn.com", "bing.com"]
        .iter()
        .any(|d| host == *d || host.ends_with(&format!(".{d}")))
}

/// Connects to the address that the browser writes into its profile.
fn connect(file: &Path) -> WebSocket<TcpStream> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < until, "the browser does not start");
        std::thread::sleep(Duration::from_millis(50));
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let mut lines = text.lines();
        let (Some(port), Some(path)) = (lines.next(), lines.next()) else { continue };
        let Ok(stream) = TcpStream::connect(format!("127.0.0.1:{port}")) else { continue };
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let address = format!("ws://127.0.0.1:{port}{path}");
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(Some(256 << 20))
            .max_frame_size(Some(256 << 20));
        return tungstenite::client::client_with_config(address, stream, Some(config))
            .expect("the browser answers")
            .0;
    }
}

/// Decodes base64.
pub fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let word = four.iter().fold(0u32, |w, &d| w << 6 | u32::from(d)) << (6 * (4 - four.len()));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
