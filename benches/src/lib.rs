//! What do the benches share? The starting policies, a statement worth deciding, and bundles of any size.

use std::{fmt::Write as _, path::Path};

use icegate_pdp_model::Principal;
use icegate_pdp_pip::{BundleDir, BundleDirError};
use icegate_pdp_policy::{BundleSource, SourceFile};

/// A join of three relations with personal data in it.
pub const JOIN: &str = "SELECT c.name, c.email, o.amount, e.dept FROM sales.public.customers c \
     JOIN sales.public.orders o ON o.customer_id = c.id JOIN sales.public.employees e ON e.id = o.id \
     WHERE c.country = 'NL' AND o.amount > 100 ORDER BY o.amount DESC LIMIT 100";

/// An analyst of the starting policies.
pub fn analyst() -> Principal {
    Principal {
        id: "dev/ana".into(),
        issuer: "https://issuer.example".into(),
        subject: "ana".into(),
        groups: ["employees", "analysts"].map(String::from).into(),
        agent: None,
    }
}

/// The starting policies, with `extra` more that are about other groups and relations.
///
/// # Errors
///
/// When `policies/` cannot be read.
pub fn bundle(extra: usize) -> Result<BundleSource, BundleDirError> {
    let mut source = BundleDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")).read()?;
    let mut more = String::new();
    for number in 0..extra {
        let _ = writeln!(
            more,
            "@id(\"extra-{number}\")\npermit (principal in Icegate::Group::\"team-{number}\", action == \
             Icegate::Action::\"read\", resource in Icegate::Schema::\"OTHER.S{number}\") when {{ context.statement.relations < 5 }};"
        );
    }
    source.files.push(SourceFile { path: "extra.cedar".into(), text: more });
    Ok(source)
}
