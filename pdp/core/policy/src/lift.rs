use cedar_policy::{
    Policy,
    pst::{BinaryOp, Clause, Expr, Literal, UnaryOp, Var},
};

/// Whether an approval by `group` surely ends what this `forbid` refuses.
///
/// Were it not so, a statement could be approved and still wait for the same approval. The policy's conditions are computed
/// with `context.approvals` known to hold `group` and nothing else known: the policy is lifted when it then cannot apply
/// whatever the rest is. `context.approvals.contains("group")`, `containsAny`, `containsAll` and `isEmpty` are understood.
pub(crate) fn lifts(policy: &Policy, group: &str) -> bool {
    let Ok(pst) = policy.to_pst() else { return false };
    let clauses = pst.body().clauses().iter().map(|clause| match clause {
        Clause::When(condition) => value(condition, group),
        Clause::Unless(condition) => value(condition, group).map(|known| !known),
    });
    // Conditions are joined by `&&`: one that is surely false settles it.
    clauses.into_iter().any(|known| known == Some(false))
}

/// What the expression surely is, once approved; `None` when that depends on anything else.
fn value(expression: &Expr, group: &str) -> Option<bool> {
    match expression {
        Expr::Literal(Literal::Bool(known)) => Some(*known),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => value(expr, group).map(|known| !known),
        Expr::UnaryOp { op: UnaryOp::IsEmpty, expr } => is_approvals(expr).then_some(false),
        Expr::BinaryOp { op, left, right } => match op {
            BinaryOp::And => match (value(left, group), value(right, group)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            BinaryOp::Or => match (value(left, group), value(right, group)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            BinaryOp::Contains if is_approvals(left) => is_group(right, group).then_some(true),
            BinaryOp::ContainsAny if is_approvals(left) => match right.as_ref() {
                Expr::Set(wanted) => wanted.iter().any(|one| is_group(one, group)).then_some(true),
                _ => None,
            },
            BinaryOp::ContainsAll if is_approvals(left) => match right.as_ref() {
                Expr::Set(wanted) => wanted.iter().all(|one| is_group(one, group)).then_some(true),
                _ => None,
            },
            _ => None,
        },
        Expr::IfThenElse { cond, then_expr, else_expr } => match value(cond, group) {
            Some(true) => value(then_expr, group),
            Some(false) => value(else_expr, group),
            None => {
                let (yes, no) = (value(then_expr, group), value(else_expr, group));
                if yes == no { yes } else { None }
            }
        },
        _ => None,
    }
}

/// `context.approvals`.
fn is_approvals(expression: &Expr) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr } if attr == "approvals" && matches!(expr.as_ref(), Expr::Var(Var::Context)))
}

fn is_group(expression: &Expr, group: &str) -> bool {
    matches!(expression, Expr::Literal(Literal::String(text)) if text == group)
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::lifts;

    #[test]
    fn a_lift_must_hold_whatever_else_is_true() {
        for (conditions, wanted) in [
            ("", false),
            (r#"unless { context.approvals.contains("g") }"#, true),
            (r#"when { context.agent.present } unless { context.approvals.contains("g") }"#, true),
            (r#"when { !context.approvals.contains("g") }"#, true),
            (r#"when { context.agent.present && !context.approvals.contains("g") }"#, true),
            (r#"unless { context.agent.present || context.approvals.contains("g") }"#, true),
            (r#"unless { context.approvals.containsAny(["h", "g"]) }"#, true),
            (r#"unless { context.approvals.containsAll(["g"]) }"#, true),
            (r#"unless { if context.agent.present then context.approvals.contains("g") else true }"#, true),
            (r"when { context.approvals.isEmpty() }", true),
            (r#"unless { context.approvals.contains("h") }"#, false),
            (r#"unless { context.approvals.containsAll(["g", "h"]) }"#, false),
            (r#"unless { context.agent.present && context.approvals.contains("g") }"#, false),
            (r#"when { context.approvals.contains("g") }"#, false),
            (r#"when { context.agent.present || !context.approvals.contains("g") }"#, false),
            (r#"unless { if context.agent.present then context.approvals.contains("g") else false }"#, false),
            (r#"unless { context.session.approvals.contains("g") }"#, false),
        ] {
            let text = format!("forbid (principal, action, resource) {conditions};");
            assert_eq!(lifts(&Policy::parse(None, text).unwrap(), "g"), wanted, "{conditions}");
        }
    }
}
