//! What comes over the socket: tricks as data, slow and endless clients, and a client that sends at random. Nothing that was
//! not decided goes on to the warehouse, and the proxy stays up.

use std::{io::Write as _, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stage::{Driver, Stage, eventually};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    sends: String,
    gets: Vec<String>,
    #[serde(default)]
    closed: bool,
}

/// Sends bytes and reads until nothing more comes for a moment. Says whether the connection was closed.
async fn exchange(stage: &Stage, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(stage.pep.addr()).await.unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(bytes).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> (String, bool) {
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let wait = if all.is_empty() { Duration::from_secs(5) } else { Duration::from_millis(150) };
        match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
            Err(_elapsed) => return (String::from_utf8_lossy(&all).into_owned(), false),
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&all).into_owned(), true),
            Ok(Ok(count)) => all.extend_from_slice(&buffer[..count]),
        }
    }
}

#[tokio::test]
async fn tricks_get_an_answer_and_nothing_else() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("wire.yaml")).unwrap();
    for case in &cases {
        let id = uuid::Uuid::new_v4().to_string();
        let sends =
            case.sends.replace('\n', "\r\n").replace("TOKEN", &stage.driver.token).replace("=ID", &format!("={id}"));
        let (got, closed) = exchange(&stage, sends.as_bytes()).await;
        let mut from = 0;
        for part in &case.gets {
            let at = got.get(from..).and_then(|rest| rest.find(part.as_str()));
            assert!(at.is_some(), "{}: no `{part}` in\n{got}", case.name);
            from += at.unwrap();
        }
        assert!(closed || !case.closed, "{}: still open after\n{got}", case.name);
    }
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    assert_eq!(stage.upstream.texts(), ["select 1"]);
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn a_bomb_is_unpacked_no_further_than_it_may_be() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"{\"sqlText\":\"").unwrap();
    for _ in 0..64 {
        encoder.write_all(&[b'x'; 1024 * 1024]).unwrap();
    }
    encoder.write_all(b"\"}").unwrap();
    let packed = encoder.finish().unwrap();
    assert!(packed.len() < 100_000);
    let head = format!(
        "POST /queries/v1/query-request?requestId={} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nAuthorization: Snowflake Token=\"{}\"\r\nContent-Length: {}\r\n\r\n",
        uuid::Uuid::new_v4(),
        stage.driver.token,
        packed.len()
    );
    let (got, _) = exchange(&stage, &[head.as_bytes(), &packed].concat()).await;
    assert!(got.contains("REQUEST-LIMIT"), "{got}");
    assert!(stage.upstream.texts().is_empty());
}

#[tokio::test]
async fn slow_and_endless_clients_are_cut() {
    let limits = "[limits]\nhead_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nhead_bytes_max = 32_768\n";
    let mut stage = Stage::with("0s", limits).await;
    stage.driver.login().await;
    // A head that never ends, one that is too long, one with too many lines.
    let (_, closed) = exchange(&stage, b"POST /session/heartbeat HTTP/1.1\r\nHost: x\r\nX-").await;
    assert!(closed, "a head that does not come");
    let long = format!("POST /session/heartbeat HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(100_000));
    let (got, closed) = exchange(&stage, long.as_bytes()).await;
    assert!(closed && !got.contains("200 OK"), "{got}");
    let many = format!("POST /session/heartbeat HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(500));
    let (got, closed) = exchange(&stage, many.as_bytes()).await;
    assert!(closed && !got.contains("200 OK"), "{got}");
    // A body that comes byte by byte.
    let mut stream = TcpStream::connect(stage.pep.addr()).await.unwrap();
    let head = format!(
        "POST /queries/v1/query-request?requestId={} HTTP/1.1\r\nHost: x\r\nAuthorization: Snowflake Token=\"{}\"\r\nContent-Length: 20\r\n\r\n{{\"sq",
        uuid::Uuid::new_v4(),
        stage.driver.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (got, _) = read(&mut stream).await;
    assert!(got.contains("REQUEST-MALFORMED") && got.contains("did not come whole"), "{got}");
    // One that goes away in the middle of what it asked.
    let mut stream = TcpStream::connect(stage.pep.addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(read(&mut stream).await);
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    assert_eq!(stage.upstream.texts(), ["select 1"]);
}

#[tokio::test]
async fn connections_are_counted_for_each_and_for_all() {
    let stage = Stage::with("0s", "[limits]\nconnections_per_address_max = 3\n").await;
    // The driver of the stage may still hold one.
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(stage.pep.addr()).await.unwrap();
        stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let (got, _) = read(&mut stream).await;
        open.push((stream, got.contains("ROUTE-UNKNOWN")));
    }
    let served = open.iter().filter(|(_, served)| *served).count();
    assert!((2..=3).contains(&served), "{served}");
    drop(open);
    eventually("room again", || async {
        let (got, _) = exchange(&stage, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        got.contains("ROUTE-UNKNOWN")
    })
    .await;
}

#[tokio::test]
async fn bodies_wait_for_room() {
    let mut stage = Stage::with("0s", "[limits]\nbody_bytes_max = 1_048_576\nbodies_bytes_max = 1_048_576\n").await;
    stage.driver.login().await;
    // All the room, for a body that does not come.
    let head = format!(
        "POST /queries/v1/query-request?requestId={} HTTP/1.1\r\nHost: x\r\nAuthorization: Snowflake Token=\"{}\"\r\nContent-Length: 1048576\r\n\r\n{{",
        uuid::Uuid::new_v4(),
        stage.driver.token
    );
    let mut hog = TcpStream::connect(stage.pep.addr()).await.unwrap();
    hog.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let driver = stage.driver.clone();
    let waits = tokio::spawn(async move { driver.query("select 1").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waits.is_finished(), "there is no room");
    drop(hog);
    assert_eq!(waits.await.unwrap()["success"], true);
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }
}

const SEED: u64 = 0x1CE6_A7E0_2026_1123;
const REQUESTS: usize = 1500;

fn request(dice: &mut Dice, token: &str) -> Vec<u8> {
    let id = uuid::Uuid::from_u128(dice.roll(4) as u128).to_string();
    let parts = [
        "queries",
        "v1",
        "query-request",
        "result",
        "abort-request",
        "monitoring",
        "session",
        "token-request",
        "heartbeat",
        "login-request",
        "api",
        "v2",
        "statements",
        "cancel",
        "chunks",
        "telemetry",
        "send",
        "",
        ".",
        "..",
        "%2e%2e",
        "%2f",
        "oauth",
        "console",
        "\u{00e9}",
        ";x",
        &id,
        "ig1.AAAA",
        token,
        "http://evil.example",
    ];
    let path = match dice.roll(3) {
        0 => "/queries/v1/query-request".to_owned(),
        1 => dice
            .of(&["/api/v2/statements", "/session/v1/login-request", "/session?delete=false", "/session/token-request"])
            .to_owned(),
        _ => (0..=dice.roll(5)).map(|_| format!("/{}", dice.of(&parts))).collect(),
    };
    let query = match dice.roll(4) {
        0 => String::new(),
        1 => format!("?requestId={id}"),
        2 => format!(
            "?requestId={id}&{}={}",
            dice.of(&["async", "nullable", "partition", "requestId", "%00"]),
            dice.of(&["true", "1", "-1", "x"])
        ),
        _ => "?".repeat(dice.roll(4)),
    };
    let sql = dice.of(&["fuzz", "select fuzz", "put file:///etc/passwd @~", "drop table fuzz; select 1", "\u{0}fuzz"]);
    let body = match dice.roll(8) {
        0 => json!({ "sqlText": sql, "asyncExec": dice.roll(2) == 1 }).to_string().into_bytes(),
        1 => json!({ "statement": sql, "role": "ACCOUNTADMIN" }).to_string().into_bytes(),
        2 => json!({ "data": { "TOKEN": "good.token", "AUTHENTICATOR": dice.of(&["OAUTH", "SNOWFLAKE_JWT", "EXTERNALBROWSER", ""]), "PASSCODE": "1" } }).to_string().into_bytes(),
        3 => format!("{{\"sqlText\":\"{sql}\",\"sqlText\":\"{sql}\"}}").into_bytes(),
        4 => [b"\x1f\x8b\x08\x00".as_slice(), &dice.bytes(40)].concat(),
        5 => "[".repeat(dice.roll(5000)).into_bytes(),
        6 => {
            let count = dice.roll(300);
            dice.bytes(count)
        }
        _ => Vec::new(),
    };
    let authorization = match dice.roll(5) {
        0 => String::new(),
        1 => format!("Authorization: Bearer {}\r\n", dice.of(&["bad.token", "x", ""])),
        2 => format!("Authorization: Snowflake Token=\"{}A\"\r\n", token),
        _ => format!("Authorization: Snowflake Token=\"{token}\"\r\n"),
    };
    let more = match dice.roll(6) {
        0 => "Transfer-Encoding: chunked\r\n",
        1 => "Content-Encoding: gzip\r\n",
        2 => "Expect: 100-continue\r\n",
        3 => "Connection: close\r\n",
        4 => "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        _ => "",
    };
    let length = match dice.roll(8) {
        0 => body.len() + 10,
        1 => body.len() / 2,
        _ => body.len(),
    };
    let method = dice.of(&["GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "TRACE", "get"]);
    let head =
        format!("{method} {path}{query} HTTP/1.1\r\nHost: x\r\n{authorization}{more}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

#[tokio::test]
async fn a_client_that_sends_at_random_gets_nothing_through() {
    let mut stage = Stage::with("0s", "[limits]\nbody_timeout = \"200ms\"\n").await;
    stage.pdp.script.lock().unwrap().deny_all = true;
    stage.driver.login().await;
    let mut dice = Dice(SEED);
    let mut broken = 0;
    for _ in 0..REQUESTS {
        let bytes = request(&mut dice, &stage.driver.token);
        let mut stream = TcpStream::connect(stage.pep.addr()).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        if dice.roll(4) == 0 {
            // Not interested in the answer.
            broken += 1;
            continue;
        }
        let mut buffer = [0; 4096];
        let _ = tokio::time::timeout(Duration::from_millis(400), stream.read(&mut buffer)).await;
    }
    assert!(broken > 100 && broken < REQUESTS);
    // It stands, and serves.
    let mut driver = Driver::new(stage.pep.addr());
    driver.login().await;
    stage.pdp.script.lock().unwrap().deny_all = false;
    assert_eq!(driver.query("select 1").await["success"], true);
    // What went to the warehouse: what was decided, and what needs no decision.
    assert_eq!(stage.upstream.texts(), ["select 1"]);
    for call in stage.upstream.calls.lock().unwrap().iter() {
        let path = call.path.split('?').next().unwrap();
        assert!(
            [
                "/session/v1/login-request",
                "/session/heartbeat",
                "/session",
                "/queries/v1/query-request",
                "/session/token-request"
            ]
            .contains(&path),
            "{}",
            call.path
        );
    }
    stage.assert_nothing_leaked();
}
