//! What a command changes of claims, in the end.

use std::collections::BTreeMap;

use weft_domain::{Claim, ClaimChange};

/// The last change of each claim by one stream, in the order of the claims: a name taken and given up again in one
/// command leaves nothing, one given up and taken back stays held.
pub(crate) fn net(changes: Vec<ClaimChange>) -> Vec<ClaimChange> {
    let mut last: BTreeMap<Claim, bool> = BTreeMap::new();
    for change in changes {
        match change {
            ClaimChange::Take(claim) => last.insert(claim, true),
            ClaimChange::Release(claim) => last.insert(claim, false),
        };
    }
    last.into_iter()
        .map(|(claim, take)| {
            if take {
                ClaimChange::Take(claim)
            } else {
                ClaimChange::Release(claim)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ClaimChange::{Release, Take};

    use super::*;

    #[test]
    fn only_the_last_change_of_a_claim_counts() {
        let (a, b) = (Claim::tenant_code("a"), Claim::tenant_code("b"));
        let changes = vec![Take(a.clone()), Release(b.clone()), Release(a.clone()), Take(b.clone())];
        assert_eq!(net(changes), [Release(a), Take(b)]);
    }
}
