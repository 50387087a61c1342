//! A headless Chromium, driven by the DevTools protocol: JSON over a pair of pipes, so that it needs no crate and no
//! port, and no other process can reach it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::peers;
use crate::support::wait::wait_for;

/// A deadline for anything that the browser does, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(40);

/// Its name in scripts/peers.sh, for any browser found.
const NAME: &str = "chromium";

/// A running browser; it is stopped on drop.
pub(crate) struct Browser {
    child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    told: Arc<Mutex<Told>>,
    _profile: TempDir,
}

/// The messages of the browser.
#[derive(Default)]
struct Told {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    /// Complaints by session.
    complaints: Vec<(String, String)>,
}

/// A page in the browser.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

/// The colour scheme that the reader prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

impl Browser {
    /// Starts a browser; `None` only under `STREAMGAUGE_SKIP_PEERS=1`.
    pub(crate) async fn start() -> Option<Self> {
        let program = peers::find(NAME)?;
        let profile = tempfile::Builder::new().prefix("streamgauge-browser-").tempdir().unwrap();
        let mut child =
            Self::command(&program, &profile).spawn().expect("a browser that is there can be started");
        let stdin = tokio::sync::Mutex::new(child.stdin.take().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        tokio::spawn(listen(child.stdout.take().unwrap(), Arc::clone(&told)));
        Some(Self { child, stdin, told, _profile: profile })
    }

    /// Starts the process. Its descriptors 3 and 4 are pipes, which a shell connects to standard input and output.
    fn command(program: &PathBuf, profile: &TempDir) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"])
            .args(["--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn send(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.try_send(session, method, parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Returns the result of a command, or its error, for example because the page navigated away.
    async fn try_send(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, String> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.last_id += 1;
            let id = told.last_id;
            told.waiting.insert(id, sender);
            id
        };
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.stdin.lock().await.write_all(&bytes).await.expect("the browser reads");
        let answer = timeout(DEADLINE, answer).await.unwrap_or_else(|_| panic!("{method}: no answer"));
        let answer = answer.unwrap_or_else(|_| panic!("{method}: the browser ended"));
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["result"].clone()),
        }
    }

    /// Opens a page of this size.
    pub(crate) async fn page(&self, width: u32, height: u32, scheme: Scheme) -> Page<'_> {
        let target = self.send(None, "Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.send(None, "Target.attachToTarget", attach).await;
        let page = Page { browser: self, session: attached["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Page", "Runtime", "Log"] {
            page.send(&format!("{domain}.enable"), json!({})).await;
        }
        page.resize(width, height).await;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme.name()}]);
        page.send("Emulation.setEmulatedMedia", json!({"features": features})).await;
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Reads the messages of the browser: results go to their callers, complaints are kept.
async fn listen(stdout: ChildStdout, told: Arc<Mutex<Told>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut message = Vec::new();
        if !matches!(stdout.read_until(0, &mut message).await, Ok(1..)) {
            // The callers are notified by that.
            told.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
            return;
        }
        message.pop();
        let Ok(message) = serde_json::from_slice::<Value>(&message) else { continue };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = message["id"].as_u64().and_then(|id| told.waiting.remove(&id)) {
            let _ = waiting.send(message);
        } else if let Some(complaint) = complaint(&message) {
            told.complaints.push((message["sessionId"].as_str().unwrap_or_default().to_owned(), complaint));
        }
    }
}

/// Returns the text of an error in the console.
fn complaint(message: &Value) -> Option<String> {
    let parameters = &message["params"];
    let is_bad = match message["method"].as_str()? {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => ["error", "warning", "assert"].contains(&parameters["type"].as_str()?),
        "Log.entryAdded" => ["error", "warning"].contains(&parameters["entry"]["level"].as_str()?),
        _ => false,
    };
    is_bad.then(|| parameters.to_string())
}

impl Page<'_> {
    async fn send(&self, method: &str, parameters: Value) -> Value {
        self.browser.send(Some(&self.session), method, parameters).await
    }

    /// Resizes the page.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.send("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Navigates to a URL, and waits until the page is complete.
    pub(crate) async fn go(&self, url: &str) {
        let gone = self.send("Page.navigate", json!({"url": url})).await;
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.ready().await;
    }

    /// Waits until the page is complete.
    pub(crate) async fn ready(&self) {
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// Disables the scripts of pages.
    pub(crate) async fn disable_scripts(&self) {
        self.send("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Evaluates an expression, and awaits a promise.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        match self.try_eval(expression).await {
            Ok(value) => value,
            Err(error) => panic!("{expression}: {error}"),
        }
    }

    async fn try_eval(&self, expression: &str) -> Result<Value, String> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let outcome = self.browser.try_send(Some(&self.session), "Runtime.evaluate", parameters).await?;
        match outcome.get("exceptionDetails") {
            Some(details) => Err(details.to_string()),
            None => Ok(outcome["result"]["value"].clone()),
        }
    }

    /// Waits until an expression is true; while the page navigates, of the old page or the new one.
    pub(crate) async fn wait(&self, expression: &str) {
        wait_for(DEADLINE, expression, async || match self.try_eval(expression).await {
            Ok(Value::Bool(true)) => Ok(()),
            Ok(other) => Err(other.to_string()),
            Err(error) => Err(error),
        })
        .await;
    }

    /// Returns the visible text of an element.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let selector = Value::from(selector);
        let text = self.eval(&format!("document.querySelector({selector}).innerText")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub(crate) async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            key if key.len() == 1 => (u32::from(key.to_ascii_uppercase().as_bytes()[0]), key),
            other => panic!("no test presses {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.send("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types into the element that has the focus.
    pub(crate) async fn write(&self, text: &str) {
        self.send("Input.insertText", json!({"text": text})).await;
    }

    /// Clicks the middle of an element with the mouse.
    pub(crate) async fn click(&self, selector: &str) {
        let found = Value::from(selector);
        let place = self
            .eval(&format!(
                "(() => {{ const one = document.querySelector({found}); one.scrollIntoView({{block: 'center'}});
                 const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
            ))
            .await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.send("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Returns a screenshot as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let taken = self.send("Page.captureScreenshot", json!({"format": "png"})).await;
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Fails if there is an error in the console.
    pub(crate) fn assert_no_complaint(&self) {
        let told = self.browser.told.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = told.complaints.iter().filter(|(session, _)| *session == self.session);
        let complaints: Vec<_> = ours.map(|(_, complaint)| complaint).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
