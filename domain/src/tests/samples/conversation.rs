use super::{Sample, of_conversation, samples};
use crate::conversation::ConversationEvent as C;
use crate::tests::fixtures::{account, at, conversation, tenant};

pub(in crate::tests) fn of_conversation_stream() -> Vec<Sample> {
    let account_id = account(1);
    let conversation_id = || conversation("R:10696051000001");
    samples(vec![
        (
            "",
            C::ConversationOpened {
                account_id,
                tenant_id: tenant(1),
                conversation_id: conversation_id(),
                at: at(0),
            },
        ),
        (
            "",
            C::MessageReceived {
                account_id,
                conversation_id: conversation_id(),
                wework_msg_id: "1000400".to_owned(),
                sender: of_conversation("sender"),
                content: of_conversation("incoming"),
                sent_at: at(9),
                at: at(10),
            },
        ),
        (
            "",
            C::ConversationRenamed {
                account_id,
                conversation_id: conversation_id(),
                name: of_conversation("name"),
                at: at(20),
            },
        ),
        (
            "",
            C::ConversationPinned {
                account_id,
                conversation_id: conversation_id(),
                at: at(21),
            },
        ),
        (
            "",
            C::ConversationUnpinned {
                account_id,
                conversation_id: conversation_id(),
                at: at(22),
            },
        ),
        (
            "",
            C::ConversationTagged {
                account_id,
                conversation_id: conversation_id(),
                tags: vec!["售后".to_owned(), "重要".to_owned()],
                at: at(23),
            },
        ),
        (
            "no_tags",
            C::ConversationTagged {
                account_id,
                conversation_id: conversation_id(),
                tags: vec![],
                at: at(24),
            },
        ),
        (
            "",
            C::ConversationMarkedRead {
                account_id,
                conversation_id: conversation_id(),
                at: at(25),
            },
        ),
    ])
}
