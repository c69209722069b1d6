//! `site serve` as a process, and curl and OpenSSL as what talks to it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{World, judge, request, strace};

/// How long is waited for what should happen at once, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service of the vault `berlin/v1`, which listens at a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Service {
    process: Child,
    /// What it said when it was ready.
    pub report: Value,
    said: Arc<Mutex<String>>,
    folder: PathBuf,
}

/// What curl was given.
#[derive(Debug)]
pub struct Answer {
    /// The status; 0 if there was none.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl said when it failed, and its exit code.
    pub failure: Option<(i32, String)>,
}

impl Service {
    /// Starts it with these options beside `--listen`.
    #[track_caller]
    pub fn start(world: &World, options: &str) -> Self {
        Self::start_with(world, options, &[])
    }

    /// The same, with these variables in its environment.
    #[track_caller]
    pub fn start_with(world: &World, options: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch(world, &format!("127.0.0.1:0 {options}"), environment)
    }

    /// Starts it at this address.
    #[track_caller]
    pub fn start_at(world: &World, address: &str, options: &str) -> Self {
        Self::launch(world, &format!("{address} {options}"), &[])
    }

    /// Starts one that stands still at its first call of one system call on this very path, until it is
    /// [let go](Service::let_go).
    #[track_caller]
    pub fn start_halting(world: &World, call: &str, path: &Path) -> Self {
        Self::run(
            world,
            strace::halting(&Self::command(world, "127.0.0.1:0"), call, path, 600),
        )
    }

    /// Whether one of its threads has been standing still for a while.
    pub fn stands_still(&self) -> bool {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let stopped = || -> Vec<PathBuf> {
            let tasks = tasks.read_dir().unwrap();
            let paths = tasks.map(|task| task.unwrap().path());
            // A thread may have ended meanwhile.
            let is_stopped = |task: &PathBuf| {
                let status = fs::read_to_string(task.join("status")).unwrap_or_default();
                status.contains("\nState:\tt")
            };
            paths.filter(is_stopped).collect()
        };
        let mut same = stopped();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(20));
            let now = stopped();
            same.retain(|task| now.contains(task));
        }
        !same.is_empty()
    }

    /// Has it go on where it stands still.
    pub fn let_go(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        judge::succeed(Command::new("kill").args(["-KILL", tracer.unwrap().trim()]));
    }

    fn command(world: &World, listen: &str) -> Command {
        world
            .site(&format!("serve --listen {listen}"))
            .env("SITE_LOG", "debug")
            .command()
    }

    #[track_caller]
    fn launch(world: &World, listen: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command(world, listen);
        command.envs(environment.iter().copied());
        Self::run(world, command)
    }

    #[track_caller]
    fn run(world: &World, mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let log = BufReader::new(process.stderr.take().unwrap());
        let kept = Arc::clone(&said);
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.next();
        let Some(Ok(ready)) = ready else {
            let exit = process.wait().unwrap();
            thread::sleep(Duration::from_millis(200));
            panic!(
                "the service did not start: {exit}\n{}",
                said.lock().unwrap()
            );
        };
        let service = Self {
            process,
            report: serde_json::from_str(&ready).unwrap(),
            said,
            folder: world.folder().to_owned(),
        };
        world.write("station-ca.pem", service.station_ca(world));
        service
    }

    /// The station CA, as whoever was let in has it: the second certificate of the service's file in the home.
    fn station_ca(&self, world: &World) -> String {
        let pem = fs::read_to_string(world.path("berlin/serve-tls.pem")).unwrap();
        let parts: Vec<&str> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
        parts[1].to_owned()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.report["listening"][0].as_str().unwrap().to_owned()
    }

    /// `https://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// curl, without a client certificate.
    pub fn curl(&self, path: &str, options: &[&str]) -> Answer {
        self.curl_as(None, path, options)
    }

    /// curl, as a station whose certificate is `$D/NAME.pem` and whose key is `$D/NAME.key`.
    pub fn curl_as(&self, station: Option<&str>, path: &str, options: &[&str]) -> Answer {
        let url = self.url(path);
        let mut command = Command::new("curl");
        command.current_dir(&self.folder).args([
            "--silent",
            "--show-error",
            "--max-time",
            "100",
            "--cacert",
            "station-ca.pem",
            "--include",
        ]);
        if let Some(station) = station {
            command.args(["--cert", &format!("{station}.pem")]);
            command.args(["--key", &format!("{station}.key")]);
        }
        let output = command.args(options).arg(&url).output().unwrap();
        let mut rest = output.stdout.as_slice();
        let mut head = String::new();
        // An interim answer stands before the final one.
        while rest.starts_with(b"HTTP/1.1 ") {
            let end = rest
                .windows(4)
                .position(|at| at == b"\r\n\r\n")
                .map_or(rest.len(), |at| at + 4);
            head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
            rest = &rest[end..];
            if !head.starts_with("http/1.1 1") {
                break;
            }
        }
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer {
            status: status.unwrap_or_default(),
            head,
            body: rest.to_vec(),
            failure: (!output.status.success())
                .then(|| (output.status.code().unwrap_or(-1), failed)),
        }
    }

    /// Has the station `line-1` ask for a device over EST, with a new key. Gives the status.
    #[track_caller]
    pub fn enrol(&self, device: &str) -> u16 {
        let csr = request::der(device, &request::key());
        fs::write(self.folder.join(format!("{device}.der")), csr).unwrap();
        let base64 = judge::openssl(&self.folder, &format!("base64 -in {device}.der"));
        fs::write(self.folder.join(format!("{device}.p10")), base64).unwrap();
        self.ask_as_before(device).status
    }

    /// Has it ask with the request that it asked with before.
    pub fn ask_as_before(&self, device: &str) -> Answer {
        let body = format!("@{device}.p10");
        let options = [
            "-H",
            "Content-Type: application/pkcs10",
            "-H",
            "Accept: application/json",
            "--data-binary",
            &body,
        ];
        let path = "/.well-known/est/TH-200/simpleenroll";
        self.curl_as(Some("line-1"), path, &options)
    }

    /// Asks it to stop, and waits until it has. Gives its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        judge::succeed(Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]));
    }

    /// Waits until it has ended. Gives its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let begin = Instant::now();
        loop {
            if let Some(exit) = self.process.try_wait().unwrap() {
                return exit.code().unwrap_or(-1);
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "it does not end\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("-- the service said\n{}", self.log());
        }
    }
}

impl Answer {
    /// It must have this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}\n{}\n{:?}",
            self.head,
            self.text(),
            self.failure
        );
        self
    }

    /// It must be this problem, with a hint.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        let json = answer.json();
        assert_eq!(json["error"]["code"], code, "{json}");
        assert!(
            !json["error"]["hint"].as_str().unwrap_or("").is_empty(),
            "{json}"
        );
        assert!(json["error"]["exit_code"].is_u64(), "{json}");
        assert!(
            crate::errors::documented().contains_key(code),
            "docs/errors.md has no {code}"
        );
        answer
    }

    /// The body.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}\n{}", self.head, self.text()))
    }

    /// The body's lines, as JSON.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.map(str::to_owned)
    }
}

/// Lets a station in whose key OpenSSL made: `$D/NAME.key`, `$D/NAME.pem`. `world` has a vault `berlin/v1`.
#[track_caller]
pub fn let_in(world: &World, station: &str, options: &str) {
    judge::openssl(
        world.folder(),
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {station}.key -subj /CN={station} -out {station}.csr"
        ),
    );
    judge::openssl(
        world.folder(),
        &format!("req -in {station}.csr -outform DER -out {station}.der"),
    );
    let said = judge::openssl(world.folder(), &format!("dgst -sha256 -r {station}.der"));
    let fingerprint = said.split(' ').next().unwrap();
    world
        .site(&format!(
            "station approve --request $D/{station}.csr --fingerprint {fingerprint} --output $D/{station}.pem {options}"
        ))
        .ok();
}
