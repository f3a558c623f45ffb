//! Results whose rows lie in storage: every form of them, through the proxy, and what an address is good for.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::issuer::{ANA, STELLA};
use icegate_tests::plain::{Answered, Plain};
use icegate_tests::stack::{Stack, Upstream, text_at};
use icegate_tests::stand_in::{CANARY, HIDDEN};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_results() -> anyhow::Result<()> {
    let mut stack = Stack::start(Upstream::StandIn).await?;
    every_form(&stack).await?;
    nothing_under_a_null(&stack).await?;
    faults_of_the_storage(&stack).await?;
    whose_it_is(&mut stack).await?;
    long_ones_pass_in_frames(&stack).await?;
    what_is_coming_stops_with_its_session(&stack).await?;
    // Not one byte of a storage's address, signature or key went to the client, in any of this.
    for exchange in stack.front.exchanges() {
        let told = format!("{} {}", exchange.response_headers, String::from_utf8_lossy(&exchange.response));
        ensure!(!told.contains(CANARY), "the answer to {} has a secret of the storage in it", exchange.target);
        let storage = stack.stand_in.as_ref().context("no stand-in")?.storage_addr().to_string();
        ensure!(!told.contains(&storage), "the answer to {} names the storage", exchange.target);
    }
    stack.icegate(&STELLA, &["audit", "verify"]).await?;
    Ok(())
}

async fn ana(stack: &Stack) -> anyhow::Result<Plain> {
    Plain::login(stack.front.addr(), &stack.issuer.token(&ANA)?).await
}

/// The addresses of a result's parts.
fn addresses(reply: &Value) -> Vec<String> {
    let chunks = reply["data"]["chunks"].as_array().cloned().unwrap_or_default();
    chunks.iter().map(|chunk| text_at(chunk, "url").to_owned()).collect()
}

/// The bytes of a part, whatever form it has.
fn unpacked(answered: &Answered) -> anyhow::Result<Vec<u8>> {
    let packed = answered.headers.get("content-encoding").is_some_and(|value| value == "gzip");
    ensure!(packed == answered.body.starts_with(&[0x1f, 0x8b]), "packed is packed, and said");
    let mut plain = Vec::new();
    if packed {
        flate2::read::GzDecoder::new(answered.body.as_ref()).read_to_end(&mut plain)?;
    } else {
        plain.extend_from_slice(&answered.body);
    }
    Ok(plain)
}

/// The rows of a part.
fn rows(answered: &Answered, arrow: bool) -> anyhow::Result<Vec<String>> {
    let plain = unpacked(answered)?;
    if !arrow {
        let rows: Vec<[String; 1]> = serde_json::from_slice(&[b"[".as_slice(), &plain, b"]"].concat())?;
        return Ok(rows.into_iter().map(|[cell]| cell).collect());
    }
    let mut cells = Vec::new();
    for batch in arrow::ipc::reader::StreamReader::try_new(plain.as_slice(), None)? {
        let batch = batch?;
        ensure!(batch.schema().field(0).metadata()["logicalType"] == "TEXT", "the metadata drivers go by");
        let column = batch.column(0).as_any().downcast_ref::<arrow::array::StringArray>().context("text")?.clone();
        cells.extend(column.iter().flatten().map(str::to_owned));
    }
    Ok(cells)
}

async fn every_form(stack: &Stack) -> anyhow::Result<()> {
    let stand_in = stack.stand_in.as_ref().context("no stand-in")?;
    let ana = ana(stack).await?;
    // A driver sends no token to the storage.
    let stranger = Plain::new(stack.front.addr());
    for format in ["json", "arrow"] {
        for packed in ["gzip", "unlabelled", "plain"] {
            for keyed in ["headers", "qrmk", "bare"] {
                let sql = format!("SELECT 'chunks {format} {packed} {keyed}'");
                let reply = ana.query(&sql).await?;
                ensure!(reply["success"] == true, "{sql}: {reply}");
                ensure!(
                    reply["data"].get("qrmk").is_none() && reply["data"].get("chunkHeaders").is_none(),
                    "{sql}: keys"
                );
                let parts = addresses(&reply);
                ensure!(parts.len() == 2 && reply["data"]["total"] == 7, "{sql}: {reply}");
                for (index, part) in parts.iter().enumerate() {
                    ensure!(part.starts_with(&format!("http://{}/chunks/", stack.front.addr())), "{sql}: {part}");
                    for accept in ["gzip", "identity"] {
                        let got = stranger.send("GET", part, &[("accept-encoding", accept)], String::new()).await?;
                        ensure!(got.status == 200, "{sql}: {}", got.text());
                        let kind = got.headers.get("content-type").context("no type")?;
                        ensure!(
                            kind == "application/octet-stream",
                            "{sql}: a part alone is no JSON, and clients parse what says so"
                        );
                        ensure!(
                            accept == "gzip" || got.headers.get("content-encoding").is_none(),
                            "{sql}: not asked for"
                        );
                        let wanted: Vec<String> = (0..3).map(|row| format!("from storage {index}.{row}")).collect();
                        ensure!(rows(&got, format == "arrow")? == wanted, "{sql}: part {index}");
                    }
                }
                let fetched = stand_in.fetches().pop().context("no fetch")?;
                ensure!(fetched.headers.get("authorization").is_none(), "{sql}: no token of ours goes to the storage");
                let key = fetched.headers.get("x-amz-server-side-encryption-customer-key");
                let key = key.map(|value| value.to_str().unwrap().to_owned());
                let wanted = match keyed {
                    "headers" => Some(format!("{CANARY}-customer-key")),
                    "qrmk" => Some(format!("{CANARY}-master-key")),
                    _ => None,
                };
                ensure!(key == wanted, "{sql}: {key:?}");
            }
        }
    }
    let told = stack.asked(&["audit", "search", "--json", "--text", "chunks arrow gzip headers"]).await?;
    let outcome = &told.first().context("no record")?["outcome"]["body"]["event"];
    ensure!(outcome["delivery"] == "through", "{outcome}");
    Ok(())
}

/// A mask in the statement hides a value from the cells: what the warehouse left of it elsewhere stays behind, too.
async fn nothing_under_a_null(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    for packed in ["gzip", "plain"] {
        let words = format!("chunks arrow single hidden {packed}");
        for (sql, left) in [
            (format!("SELECT '{words}' AS said"), true),
            (format!("SELECT ssn AS said FROM sales.public.customers WHERE country <> '{words}'"), false),
        ] {
            let reply = ana.query(&sql).await?;
            let part = addresses(&reply).pop().with_context(|| format!("{sql}: {reply}"))?;
            let got = Plain::new(stack.front.addr()).get(&part).await?;
            let plain = unpacked(&got)?;
            let found = plain.windows(HIDDEN.len()).any(|window| window == HIDDEN.as_bytes());
            ensure!(found == left, "{sql}: {found}");
            ensure!(rows(&got, true)?.len() == 3, "{sql}");
        }
    }
    Ok(())
}

async fn faults_of_the_storage(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let stranger = Plain::new(stack.front.addr());
    let fetch = async |sql: &str| {
        let part = addresses(&ana.query(sql).await?).pop().with_context(|| format!("{sql}: no parts"))?;
        anyhow::Ok((stranger.get(&part).await, part))
    };
    let (busy, part) = fetch("SELECT 'chunks busy'").await?;
    ensure!(busy?.status == 503, "drivers ask again");
    ensure!(stranger.get(&part).await?.status == 200, "and get it");
    let (elsewhere, _) = fetch("SELECT 'chunks redirect'").await?;
    ensure!(elsewhere?.status == 502, "nobody is followed");
    let fetches = stack.stand_in.as_ref().context("no stand-in")?.fetches();
    ensure!(!fetches.iter().any(|fetch| fetch.target.contains("/stage/other")), "nor was it asked");
    let direct = Plain::new(stack.pep.addr());
    let part = addresses(&ana.query("SELECT 'chunks cut'").await?).pop().context("no parts")?;
    let path = part.split_once("/chunks/").context("no address")?.1;
    ensure!(direct.get(&format!("/chunks/{path}")).await.is_err(), "what breaks off looks broken, never short");
    let reply = ana.query("SELECT 'chunks elsewhere'").await?;
    ensure!(text_at(&reply, "message").contains("[REPLY-WITHHELD]"), "{reply}");
    Ok(())
}

async fn whose_it_is(stack: &mut Stack) -> anyhow::Result<()> {
    let stranger = Plain::new(stack.front.addr());
    let mut ana = ana(stack).await?;
    let reply = ana.query("SELECT 'chunks single'").await?;
    let part = addresses(&reply).pop().context("no parts")?;
    let missing = stranger.get(&format!("http://{}/chunks/ig1.nothing", stack.front.addr())).await?;
    ensure!(missing.status == 404, "{}", missing.text());
    // One changed letter, a session token instead, a query string: all of it as if it were not there.
    let mut changed = part.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    let middle = part.replacen("ig1.", "ig1.A", 1);
    let token = ana.authorization.replace("Snowflake Token=", "").replace('"', "");
    let session = format!("http://{}/chunks/{token}", stack.front.addr());
    for address in [&changed, &middle, &session] {
        let got = stranger.get(address).await?;
        // The last letter of base64 may hold bits that mean nothing; then it is the same address.
        let same = address == &changed && got.status == 200;
        ensure!(same || (got.status == 404 && got.body == missing.body), "{}", got.text());
    }
    let posted = stranger.send("POST", &part, &[], "{}".to_owned()).await?;
    ensure!(posted.text().contains("ROUTE-UNKNOWN"), "{}", posted.text());
    // It is there after a restart, in a process that has never heard of it.
    stack.pep.kill().await?;
    stack.restart_pep().await?;
    let again = stranger.get(&part).await?;
    ensure!(again.status == 200, "after a restart: {} {}", again.status, again.text());
    // By its id, from the same session and after the restart: with fresh addresses. From another session: nothing.
    let id = text_at(&reply["data"], "queryId").to_owned();
    let by_id = ana.get(&format!("/queries/{id}/result")).await?.json();
    ensure!(by_id["success"] == true, "{by_id}");
    let other = Plain::login(stack.front.addr(), &stack.issuer.token(&ANA)?).await?;
    let theirs = other.get(&format!("/queries/{id}/result")).await?.json();
    let nothing = other.get("/queries/01b2c3d4-0000-1111-2222-333344445555/result").await?.json();
    ensure!(theirs["code"] == "000612" && theirs["message"] == nothing["message"], "{theirs} {nothing}");
    // With the session it goes.
    ana.send("POST", "/session?delete=true", &[], json!({}).to_string()).await?;
    let mut gone = stranger.get(&part).await?;
    for _ in 0..50 {
        if gone.status == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        gone = stranger.get(&part).await?;
    }
    ensure!(gone.status == 404 && gone.body == missing.body, "after the logout: {}", gone.status);
    ana.authorization.clear();
    Ok(())
}

/// Resident bytes of a process.
fn resident_bytes(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

async fn long_ones_pass_in_frames(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let reply = ana.query("SELECT 'chunks long single'").await?;
    let part = addresses(&reply).pop().context("no parts")?;
    let path = format!("/chunks/{}", part.split_once("/chunks/").context("no address")?.1);
    // Past the recorder, which keeps everything.
    let direct = Plain::new(stack.pep.addr());
    let before = stack.pep.id().and_then(resident_bytes);
    let mut most = before;
    for _ in 0..4 {
        let got = direct.get(&path).await?;
        ensure!(got.body.len() > 1_000_000, "{}", got.body.len());
        most = most.max(stack.pep.id().and_then(resident_bytes));
    }
    if let (Some(before), Some(most)) = (before, most) {
        ensure!(most < before + 24 * 1024 * 1024, "from {before} to {most} bytes for parts that only pass");
    }
    Ok(())
}

async fn what_is_coming_stops_with_its_session(stack: &Stack) -> anyhow::Result<()> {
    // As it lies there, and unpacked on its way.
    for form in ["plain", "gzip"] {
        let ana = ana(stack).await?;
        let reply = ana.query(&format!("SELECT 'chunks endless {form} single'")).await?;
        let part = addresses(&reply).pop().context("no parts")?;
        let (_, sealed) = part.split_once("/chunks/").context("no address")?;
        let mut client = TcpStream::connect(stack.pep.addr()).await?;
        let request = format!("GET /chunks/{sealed} HTTP/1.1\r\nHost: {}\r\n\r\n", stack.pep.addr());
        client.write_all(request.as_bytes()).await?;
        let mut frame = vec![0; 64 * 1024];
        client.read_exact(&mut frame).await?;
        ensure!(frame.starts_with(b"HTTP/1.1 200"), "{form}: {}", String::from_utf8_lossy(&frame));
        ana.send("POST", "/session?delete=true", &[], json!({}).to_string()).await?;
        let mut last = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), async {
            while let Ok(bytes @ 1..) = client.read(&mut frame).await {
                last = frame[..bytes].to_vec();
            }
        });
        ensure!(ended.await.is_ok(), "{form}: it goes on after the logout");
        ensure!(!last.ends_with(b"0\r\n\r\n"), "{form}: what was cut looks whole");
    }
    Ok(())
}
