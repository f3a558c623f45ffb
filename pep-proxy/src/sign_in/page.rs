//! What a person sees: three small pages without script, that nothing else can frame, and that nothing keeps.

use std::{net::IpAddr, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use icegate_pep_protocol::{SignInAsk, refusal::one_line};
use sha2::{Digest as _, Sha256};

use crate::listen::{Answer, Content};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#16222e;background:#f3f6f8;margin:0}\
main{max-width:34rem;margin:12vh auto;padding:2rem 2.5rem;background:#fff;border-radius:.75rem;box-shadow:0 1px 6px #0002}\
h1{font-size:1.35rem;margin:0 0 1rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:1rem 0}\
dt{color:#5b6b78}dd{margin:0;overflow-wrap:anywhere}a.go{display:inline-block;margin-top:.5rem;padding:.6rem 1.4rem;\
border-radius:.4rem;background:#0b62a8;color:#fff;text-decoration:none}p.note{color:#5b6b78}p.warn{padding:.6rem 1rem;border-left:.3rem solid #b3541e;background:#fdf1e7}code{overflow-wrap:anywhere}";

/// Only our own style counts; there is no script, no frame, no form, and nothing is loaded from anywhere.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

/// Who asks, for the person to recognise, and the way on to the identity provider.
pub(super) fn confirm(ask: &SignInAsk, browser: IpAddr, account: &str, provider: &str, url: &str) -> Answer {
    let SignInAsk { client, .. } = ask;
    let program = [&client.app_id, &client.app_version].map(String::as_str).join(" ");
    let program = match (program.trim(), client.application.as_str()) {
        ("", _) => "a program that did not say its name".to_owned(),
        (program, "") => program.to_owned(),
        (program, application) if application == client.app_id => program.to_owned(),
        (program, application) => format!("{program} ({application})"),
    };
    let mut rows = vec![("Program", program)];
    rows.push(("For", if ask.login_name.is_empty() { "whoever signs in".to_owned() } else { ask.login_name.clone() }));
    rows.push(("Snowflake account", account.to_owned()));
    if !ask.from.is_empty() {
        rows.push(("Asked from", ask.from.clone()));
    }
    // Only told: a program may reach the proxy by another way than the browser beside it.
    let elsewhere = match ask.from.as_str() {
        "" => String::new(),
        from if from == browser.to_string() => String::new(),
        _ => format!(
            "<p class=\"warn\">The program asked from another address than your browser's, which is {browser}. \
             Unless you know why, close this page.</p>"
        ),
    };
    rows.push(("Waits at", format!("localhost:{}", ask.port)));
    let rows: Vec<String> =
        rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escaped(value))).collect();
    page(
        StatusCode::OK,
        "",
        "Sign in for a program?",
        &format!(
            "<p>A program wants to run statements in Snowflake as you.</p><dl>{rows}</dl>{elsewhere}\
             <p>Go on only if you have just started this program yourself, on this computer.</p>\
             <p><a class=\"go\" href=\"{}\">Sign in at {}</a></p>\
             <p class=\"note\">If you have not, close this page: nothing happens.</p>",
            escaped(url),
            escaped(provider),
            rows = rows.concat(),
        ),
    )
}

/// The sign-in went well; the browser goes on to the driver's port by itself.
pub(super) fn signed_in(name: &str, port: u16, address: &str) -> Answer {
    let address = escaped(address);
    page(
        StatusCode::OK,
        &format!("<meta http-equiv=\"refresh\" content=\"1;url={address}\">"),
        "You are signed in",
        &format!(
            "<p>You are signed in as <b>{}</b>. This page hands over to the program that waits at <code>localhost:{port}</code>; \
             there you can go on, and close this window.</p>\
             <p class=\"note\">If nothing happens, <a href=\"{address}\">hand over now</a>. If your browser then finds nobody there, \
             the program no longer waits: start it again.</p>",
            escaped(name),
        ),
    )
}

/// What went wrong, and what to do.
pub(super) fn refused(status: StatusCode, text: &str) -> Answer {
    page(
        status,
        "",
        "You are not signed in",
        &format!(
            "<p>{}</p><p class=\"note\">The program may still wait: stop it before you start it again.</p>",
            escaped(text)
        ),
    )
}

fn page(status: StatusCode, head: &str, title: &str, content: &str) -> Answer {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         {head}<title>{title} · icegate</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{content}</main></body></html>\n"
    );
    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    headers.extend(POLICY.clone().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    Answer {
        status,
        content_type: HeaderValue::from_static("text/html; charset=utf-8"),
        headers,
        content: Content::Whole(Bytes::from(html)),
    }
}

/// Text that says nothing to a browser, in one line without what reorders or hides.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for char in one_line(text, usize::MAX).chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
