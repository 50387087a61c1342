//! A server on a free port, and a client that shows what was sent byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Method, StatusCode};
use streamgauge::http::access::AccessControl;
use streamgauge::http::limits::ServerLimits;
use streamgauge::http::listener;
use streamgauge::http::reply::Reply;
use streamgauge::http::request::Request;
use streamgauge::http::routes::{OTHER, Routes};
use streamgauge::http::server;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No test needs as long; whatever takes longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than any test: for limits that must not be what ended the wait.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

pub(crate) async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("done within the deadline")
}

/// ServerLimits that no client in a test reaches.
pub(crate) fn generous() -> ServerLimits {
    ServerLimits {
        head: NEVER,
        crowded: NEVER,
        write_stall: NEVER,
        linger: NEVER,
        drain: NEVER,
        ..ServerLimits::default()
    }
}

struct Route {
    method: Method,
    path: &'static str,
    is_open: bool,
    reply: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
}

/// Routes with exact paths and closures that answer.
#[derive(Default)]
pub(crate) struct Router(Vec<Route>);

impl Router {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(
        self,
        path: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.route(Method::GET, path, reply)
    }

    pub(crate) fn route(
        mut self,
        method: Method,
        path: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.0.push(Route { method, path, is_open: false, reply: Box::new(reply) });
        self
    }

    pub(crate) fn open(
        mut self,
        path: &'static str,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.0.push(Route { method: Method::GET, path, is_open: true, reply: Box::new(reply) });
        self
    }
}

impl Routes for Router {
    fn route(&self, path: &str) -> &'static str {
        self.0.iter().find(|route| route.path == path).map_or(OTHER, |route| route.path)
    }

    fn is_open(&self, route: &str) -> bool {
        self.0.iter().any(|other| other.path == route && other.is_open)
    }

    async fn reply(&self, route: &'static str, request: &Request) -> Reply {
        let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
        let mut here = self.0.iter().filter(|other| other.path == route).peekable();
        let Some(first) = here.peek() else { return Reply::not_found() };
        let allowed = if first.method == Method::GET { "GET, HEAD" } else { "POST" };
        match here.find(|route| route.method == method) {
            Some(route) => (route.reply)(request),
            None => Reply::method_not_allowed(allowed),
        }
    }
}

pub(crate) fn fine() -> Router {
    Router::new().get("/", |_| Reply::text(StatusCode::OK, "fine\n"))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) observed: Arc<Mutex<Vec<(&'static str, u16)>>>,
    /// The access control.
    pub(crate) access: watch::Sender<AccessControl>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(router: Router, limits: ServerLimits) -> Self {
        Self::behind(AccessControl::default(), router, limits)
    }

    pub(crate) fn behind(access: AccessControl, router: Router, limits: ServerLimits) -> Self {
        let listener = listener::bind(Some(([127, 0, 0, 1], 0).into())).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel();
        let (access, current_access) = watch::channel(access);
        let observed = Arc::new(Mutex::new(Vec::new()));
        let observe = {
            let observed = Arc::clone(&observed);
            move |route, code| observed.lock().expect("no test panics with it").push((route, code))
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let task =
            tokio::spawn(server::run(listener, Arc::new(router), current_access, limits, observe, shutdown));
        Self { address, observed, access, stop, task }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::over(self.dial().await)
    }

    /// A connection over which nothing was said.
    pub(crate) async fn dial(&self) -> TcpStream {
        within_deadline(TcpStream::connect(self.address)).await.expect("connected")
    }

    /// Begins the shutdown; the handle ends with the server.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.stop.send(()).expect("the server runs");
        self.task
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case names, in order of the name, without `Date`.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

/// A connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

impl Client {
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("sent");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within_deadline(self.stream.write_all(bytes.as_ref())).await
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("half closed");
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        let mut answer = self.head().await;
        if method != "HEAD" {
            self.body(&mut answer).await;
        }
        answer
    }

    /// The next answer with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        self.body(&mut answer).await;
        answer
    }

    pub(crate) async fn head(&mut self) -> Answer {
        let status_line = self.line().await;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            if name != "date" {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        headers.sort();
        Answer { status: status.expect("a status line"), headers, body: Vec::new() }
    }

    async fn body(&mut self, answer: &mut Answer) {
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            answer.body = self.bytes(length).await;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
        } else {
            answer.body = self.rest().await.expect("read to the end");
        }
    }

    /// The next chunk of a chunked body, `None` at its end.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await, 16).expect("a chunk's length");
        let chunk = self.bytes(length).await;
        assert_eq!(self.line().await, "");
        (length > 0).then_some(chunk)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within_deadline(self.stream.read_line(&mut line)).await.expect("a line");
        line.trim_end().to_owned()
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        within_deadline(self.stream.read_exact(&mut bytes)).await.expect("so many bytes");
        bytes
    }

    /// All until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within_deadline(self.stream.read_to_end(&mut rest)).await.map(|_| rest)
    }

    /// Waits until the server has closed the connection, without another answer.
    pub(crate) async fn closed(&mut self) {
        let rest = self.rest().await.unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
