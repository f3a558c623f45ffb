//! SIGHUP to the program itself: what its files hold now counts at once; what cannot be used is said, and changes nothing.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    pdp::FakePdp,
    stage::{Driver, eventually},
    tls::{connect, over_tls},
    upstream::FakeUpstream,
};

const LOGIN: &str = concat!(
    "POST /session/v1/login-request HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 55\r\n\r\n",
    r#"{"data":{"AUTHENTICATOR":"OAUTH","TOKEN":"good.token"}}"#
);
const HEARD: &str = "told to read credentials, certificates and keys again";
const FILES: [&str; 4] = ["credential", "certificate", "mask-keys", "token-keys"];

struct Program {
    child: Child,
    addr: SocketAddr,
    metrics: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    async fn start(dir: &Path, config: &str) -> Self {
        std::fs::write(dir.join("pep.toml"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_icegate-pep"));
        program.current_dir(dir).args(["--config", "pep.toml", "--announce", "announced"]).stdin(Stdio::null());
        let child = program.stderr(log).spawn().unwrap();
        let announced = dir.join("announced");
        eventually("announced", || async { announced.exists() }).await;
        let told: Value = serde_json::from_str(&std::fs::read_to_string(announced).unwrap()).unwrap();
        let addr = |name: &str| told[name].as_str().unwrap().parse().unwrap();
        Self { child, addr: addr("addr"), metrics: addr("metrics") }
    }

    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// How often each of the files was read again with this result.
    async fn reread(&self, result: &str) -> [u64; 4] {
        let text = Driver::new(self.addr).get_text(&format!("http://{}/metrics", self.metrics)).await;
        FILES.map(|what| {
            let line = format!("icegate_pep_rereads_total{{what=\"{what}\",result=\"{result}\"}} ");
            text.lines().find_map(|told| told.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
        })
    }
}

fn mask_key(byte: char) -> String {
    // 32 bytes in base64.
    format!("{}=", byte.to_string().repeat(43))
}

#[tokio::test]
async fn a_hangup_has_everything_read_again() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    let certificate = || {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write("cert.pem", &own.cert.pem());
        write("key.pem", &own.signing_key.serialize_pem());
        own.cert.pem()
    };
    let first = certificate();
    write("pw", "s3cret-1");
    write("tokens", &mask_key('E'));
    // A program that unwraps keys, and talks about them.
    write("kms", "cat mask.keys >&2; test \"$1\" = crm && cat mask.keys; exit \"$(cat status)\"");
    write("status", "0");
    write("mask.keys", &format!("crm 1 {}\n", mask_key('I')));
    let (pdp_addr, _pdp) = FakePdp::new().serve("127.0.0.1:0".parse().unwrap()).await;
    let (upstream, upstream_addr) = FakeUpstream::serve().await;
    let config = format!(
        r#"
pep_id = "pep-1"
listen = {{ addr = "127.0.0.1:0", tls = {{ cert = "cert.pem", key = "key.pem" }} }}
upstream = {{ url = "http://{upstream_addr}", danger_plaintext = true, account = "acct", user = "svc", auth = "password", password_file = "pw", reread = "1h" }}
pdp = {{ url = "http://{pdp_addr}", danger_plaintext = true }}
tokens = {{ keys_file = "tokens" }}
masking = {{ keys_command = ["/bin/sh", "kms", "crm"], keys_every = "1h" }}
metrics = {{ addr = "127.0.0.1:0" }}
"#
    );
    let program = Program::start(at, &config).await;
    let password = || {
        let login = upstream.calls_to("/session/v1/login-request").pop().unwrap();
        login.body["data"]["PASSWORD"].as_str().unwrap().to_owned()
    };
    let logs_in = async |ca: &str| over_tls(program.addr, ca, LOGIN).await.contains("\"success\":true").then(&password);
    eventually("let in", || async { logs_in(&first).await == Some("s3cret-1".to_owned()) }).await;

    // Heard twice, the first look is done: at what the start has read.
    for heard in 1..=2 {
        program.hang_up();
        let log = || std::fs::read_to_string(at.join("log")).unwrap();
        eventually("heard", || async { log().matches(HEARD).count() >= heard }).await;
    }
    assert_eq!(program.reread("taken").await, [0; 4], "nothing has changed");
    let second = certificate();
    write("pw", "s3cret-2");
    write("tokens", &format!("{}\n{}\n", mask_key('Q'), mask_key('E')));
    write("mask.keys", &format!("crm 2 {}\ncrm 1 {}\n", mask_key('U'), mask_key('I')));
    program.hang_up();
    eventually("read again", || async { program.reread("taken").await == [1; 4] }).await;
    assert_eq!(logs_in(&second).await.as_deref(), Some("s3cret-2"));
    assert!(connect(program.addr, &first).await.is_err(), "the first one is no longer shown");

    write("pw", "\n");
    write("cert.pem", "no-pem-canary");
    write("tokens", "no-token-key-canary");
    write("mask.keys", "crm 3 no-mask-key-canary");
    program.hang_up();
    eventually("said", || async { program.reread("refused").await == [1; 4] }).await;
    assert_eq!(logs_in(&second).await.as_deref(), Some("s3cret-2"), "what was in force stays");
    assert_eq!(program.reread("taken").await, [1; 4]);

    // Good keys of a program that fails are none, and keys that are as they were are nothing new.
    write("mask.keys", &format!("crm 2 {}\n", mask_key('U')));
    write("status", "1");
    program.hang_up();
    eventually("said", || async { program.reread("refused").await == [1, 1, 2, 1] }).await;

    let log = std::fs::read_to_string(at.join("log")).unwrap();
    for (what, key) in
        FILES.iter().zip(["upstream.password_file", "listen.tls.cert", "masking.keys_command", "tokens.keys_file"])
    {
        let told =
            |line: &&str| line.contains("new one not usable; the one before stays in force") && line.contains(what);
        let line = log.lines().find(told).unwrap_or_else(|| panic!("nothing of `{what}` in\n{log}"));
        assert!(line.contains("ERROR") && line.contains(key), "{line}");
    }
    for secret in ["s3cret", "canary"].map(str::to_owned).into_iter().chain(['E', 'I', 'Q', 'U'].map(mask_key)) {
        assert!(!log.contains(&secret), "`{secret}` in\n{log}");
    }
}

#[test]
fn no_start_without_the_keys_a_program_should_give() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("pw", "s3cret");
    for (command, wanted) in [
        (
            r#"["/bin/sh", "-c", "echo crm 1 canary"]"#,
            "`masking.keys_command`: `/bin/sh`: key file, line 1: the key is not",
        ),
        (
            r#"["/bin/sh", "-c", "echo canary; exit 1"]"#,
            "`masking.keys_command`: `/bin/sh` ended badly (exit status: 1)",
        ),
        (r#"["/nowhere/keys"]"#, "`masking.keys_command`: cannot read `/nowhere/keys`"),
        (r#"["sh", "-c", "true"]"#, "`masking.keys_command` begins with the whole path of a program"),
        ("[]", "`masking.keys_command` begins with the whole path of a program"),
    ] {
        let config = format!(
            r#"
pep_id = "pep-1"
listen = {{ addr = "127.0.0.1:0", danger_plaintext = true }}
upstream = {{ url = "http://127.0.0.1:9", danger_plaintext = true, account = "acct", user = "svc", auth = "password", password_file = "pw" }}
pdp = {{ url = "http://127.0.0.1:9", danger_plaintext = true }}
masking = {{ keys_command = {command} }}
"#
        );
        write("pep.toml", &config);
        let mut program = Command::new(env!("CARGO_BIN_EXE_icegate-pep"));
        let ended = program.current_dir(dir.path()).args(["--config", "pep.toml"]).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{command}: {said}");
        assert!(said.contains(wanted) && !said.contains("canary"), "{command}: {said}");
    }
}
