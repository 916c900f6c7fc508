//! What history tells of a secret, read and checked by the database.

use crate::support::World;

impl World {
    /// History of the secret's chain in order: kind, step, effect.
    pub(crate) async fn history(&self, secret: &str) -> Vec<(String, Option<String>, Option<i64>)> {
        let sql = "SELECT kind, b ->> 'step', (b ->> 'effect')::bigint FROM rota.rotation_history h, \
            LATERAL (SELECT convert_from(h.canonical, 'UTF8')::jsonb -> 'entry' AS b) AS body \
            WHERE chain = 'secret:' || $1 ORDER BY seq";
        sqlx::query_as(sql).bind(secret).fetch_all(&self.operator).await.unwrap()
    }

    /// Each outcome follows its own intent; effect numbers grow. Returns the steps
    /// that changed something, in order.
    pub(crate) async fn effects(&self, secret: &str) -> Vec<String> {
        let mut open: Option<(String, i64)> = None;
        let (mut last, mut steps) = (0, Vec::new());
        for (kind, step, effect) in self.history(secret).await {
            let Some((step, effect)) = step.zip(effect) else { continue };
            match kind.as_str() {
                "step.intended" => {
                    assert!(open.is_none(), "{step} is intended while {open:?} has no outcome");
                    assert!(effect > last, "{step} has effect {effect} after {last}");
                    last = effect;
                    open = Some((step, effect));
                }
                "step.done" | "rotation.ended" => {
                    assert_eq!(open.take(), Some((step.clone(), effect)), "{kind}");
                    steps.push(step);
                }
                other => panic!("{other} of {step} belongs to an effect"),
            }
        }
        assert_eq!(open, None, "an intent without an outcome at the end");
        steps
    }

    /// Every chain counts without a gap, each row names the hash of the one before it,
    /// and has the hash of its own bytes: computed by the database, not by Rota.
    pub(crate) async fn assert_history_has_no_hole(&self) {
        let sql = "SELECT count(*) FILTER (WHERE ok), count(*) FROM (SELECT \
                hash = sha256(canonical) \
                AND seq = row_number() OVER chain \
                AND prev_hash = coalesce(lag(hash) OVER chain, decode(repeat('00', 32), 'hex')) AS ok \
            FROM rota.rotation_history WINDOW chain AS (PARTITION BY chain ORDER BY seq)) AS rows";
        let (whole, all): (i64, i64) = sqlx::query_as(sql).fetch_one(&self.operator).await.unwrap();
        assert!(all > 0, "there is no history");
        assert_eq!(whole, all, "{} rows of history do not follow", all - whole);
    }
}
