//! What one query may ask for.

use std::sync::Arc;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextValidation};
use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet};
use async_graphql::{Positioned, ServerError, ServerResult, ValidationResult, Variables};

use super::error::{PARSE_FAILED, VALIDATION_FAILED, set_code};

/// Deep enough for the introspection query of the usual explorers.
pub(crate) const DEPTH: usize = 16;
/// Fields, each counted once per row of the pages around it.
pub(crate) const COMPLEXITY: usize = 20_000;
pub(crate) const ALIASES: usize = 50;
pub(crate) const DIRECTIVES: usize = 20;

/// Refuses queries with too many aliases and subscriptions to several things, and gives refusals before execution their
/// codes.
pub(crate) struct Limits;

impl ExtensionFactory for Limits {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for Limits {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await.map_err(|mut error| {
            set_code(&mut error, PARSE_FAILED);
            error
        })?;
        let refused = |text: String| {
            let mut error = ServerError::new(text, None);
            set_code(&mut error, VALIDATION_FAILED);
            Err(error)
        };
        let aliases = aliases_of(&document);
        if aliases > ALIASES {
            return refused(format!("{aliases} aliases; a query may have {ALIASES}"));
        }
        if subscribes_to_several(&document) {
            return refused("a subscription must have one field at its root".to_owned());
        }
        Ok(document)
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        next.run(ctx).await.map_err(|mut errors| {
            for error in &mut errors {
                set_code(error, VALIDATION_FAILED);
            }
            errors
        })
    }
}

/// Whether a subscription has more than one field at its root. The same field twice counts twice: it would run twice.
fn subscribes_to_several(document: &ExecutableDocument) -> bool {
    document.operations.iter().any(|(_, operation)| {
        operation.node.ty == OperationType::Subscription && root_fields(document, &operation.node.selection_set) > 1
    })
}

/// Fields of a set and of the fragments in it, of which there are no circles; counted to two, for there may be millions.
fn root_fields(document: &ExecutableDocument, set: &Positioned<SelectionSet>) -> usize {
    let mut found = 0;
    for item in &set.node.items {
        found += match &item.node {
            Selection::Field(_) => 1,
            Selection::InlineFragment(fragment) => root_fields(document, &fragment.node.selection_set),
            Selection::FragmentSpread(spread) => {
                let fragment = document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |fragment| root_fields(document, &fragment.node.selection_set))
            }
        };
        if found > 1 {
            break;
        }
    }
    found
}

fn aliases_of(document: &ExecutableDocument) -> usize {
    let operations = document
        .operations
        .iter()
        .map(|(_, operation)| aliases_in(&operation.node.selection_set));
    let fragments = document
        .fragments
        .values()
        .map(|fragment| aliases_in(&fragment.node.selection_set));
    operations.chain(fragments).sum()
}

fn aliases_in(set: &Positioned<SelectionSet>) -> usize {
    set.node
        .items
        .iter()
        .map(|item| match &item.node {
            Selection::Field(field) => usize::from(field.node.alias.is_some()) + aliases_in(&field.node.selection_set),
            Selection::InlineFragment(fragment) => aliases_in(&fragment.node.selection_set),
            Selection::FragmentSpread(_) => 0,
        })
        .sum()
}
