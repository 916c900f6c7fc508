//! Task definitions whose secrets name exact versions.
//!
//! `valueFrom` of a Secrets Manager secret is `arn:...:secret:NAME-SUFFIX`, and after
//! it `:json-key:version-stage:version-id`, each of which may be empty (Amazon ECS
//! Developer Guide, "Pass Secrets Manager secrets through Amazon ECS environment
//! variables").

use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionInputBuilder;
use aws_sdk_ecs::types::{ContainerDefinition, Tag, TaskDefinition};
use rota_core::fault::Fault;
use rota_engine::ports::Pin;

/// Colon-separated parts of a Secrets Manager ARN.
const ARN_PARTS: usize = 7;

/// True where every pinned name shows exactly its version, in every container that has it.
pub(super) fn are_shown(definition: &TaskDefinition, pins: &[Pin]) -> bool {
    pins.iter().all(|pin| {
        let mut found = false;
        for secret in secrets(definition.container_definitions()).filter(|secret| secret.name() == pin.name) {
            found = true;
            if secret.value_from() != wanted(secret.value_from(), &pin.reference) {
                return false;
            }
        }
        found
    })
}

/// `definition` with each pinned name's reference replaced, ready to be registered.
///
/// # Errors
/// [`Fault::Invalid`] where a name is not among the secrets of any container.
pub(super) fn pinned(
    definition: &TaskDefinition,
    tags: &[Tag],
    pins: &[Pin],
) -> Result<RegisterTaskDefinitionInputBuilder, Fault> {
    let mut containers = definition.container_definitions().to_vec();
    for pin in pins {
        let mut found = false;
        for container in &mut containers {
            for secret in container.secrets.iter_mut().flatten().filter(|secret| secret.name == pin.name) {
                secret.value_from = wanted(&secret.value_from, &pin.reference);
                found = true;
            }
        }
        if !found {
            return Err(Fault::invalid(format!(
                "no container of {} has a secret called `{}`, add it to the task definition or correct `publish`",
                name_of(definition),
                pin.name
            )));
        }
    }
    let tags = (!tags.is_empty()).then(|| tags.to_vec());
    Ok(RegisterTaskDefinitionInputBuilder::default()
        .set_family(definition.family.clone())
        .set_container_definitions(Some(containers))
        .set_task_role_arn(definition.task_role_arn.clone())
        .set_execution_role_arn(definition.execution_role_arn.clone())
        .set_network_mode(definition.network_mode.clone())
        .set_volumes(definition.volumes.clone())
        .set_placement_constraints(definition.placement_constraints.clone())
        .set_requires_compatibilities(definition.requires_compatibilities.clone())
        .set_cpu(definition.cpu.clone())
        .set_memory(definition.memory.clone())
        .set_pid_mode(definition.pid_mode.clone())
        .set_ipc_mode(definition.ipc_mode.clone())
        .set_proxy_configuration(definition.proxy_configuration.clone())
        .set_ephemeral_storage(definition.ephemeral_storage.clone())
        .set_runtime_platform(definition.runtime_platform.clone())
        .set_enable_fault_injection(definition.enable_fault_injection)
        .set_tags(tags))
}

/// True where `definition` is what registering `revision` would make, so that one
/// whose registration went unanswered is used and not made twice.
pub(super) fn is_registered(
    definition: &TaskDefinition,
    revision: &RegisterTaskDefinitionInputBuilder,
) -> bool {
    let containers = revision.get_container_definitions();
    definition.family == *revision.get_family()
        && definition.container_definitions() == containers.as_deref().unwrap_or_default()
        && definition.task_role_arn == *revision.get_task_role_arn()
        && definition.execution_role_arn == *revision.get_execution_role_arn()
        && definition.network_mode == *revision.get_network_mode()
        && definition.volumes == *revision.get_volumes()
        && definition.cpu == *revision.get_cpu()
        && definition.memory == *revision.get_memory()
        && definition.runtime_platform == *revision.get_runtime_platform()
        && definition.ephemeral_storage == *revision.get_ephemeral_storage()
        && definition.proxy_configuration == *revision.get_proxy_configuration()
}

pub(super) fn name_of(definition: &TaskDefinition) -> String {
    format!("{}:{}", definition.family().unwrap_or("the task definition"), definition.revision())
}

fn secrets(containers: &[ContainerDefinition]) -> impl Iterator<Item = &aws_sdk_ecs::types::Secret> {
    containers.iter().flat_map(ContainerDefinition::secrets)
}

/// What `valueFrom` becomes. Which key of a JSON secret a container reads is the
/// definition's own business, so a key is kept where the reference names none.
fn wanted(current: &str, reference: &str) -> String {
    let Some(key) = json_key(current) else { return reference.to_owned() };
    let mut parts: Vec<&str> = reference.split(':').collect();
    match parts.get_mut(ARN_PARTS) {
        Some(slot) if slot.is_empty() && reference.starts_with("arn:") => *slot = key,
        Some(_) | None => return reference.to_owned(),
    }
    parts.join(":")
}

fn json_key(reference: &str) -> Option<&str> {
    let is_secret = reference.starts_with("arn:") && reference.contains(":secretsmanager:");
    reference.split(':').nth(ARN_PARTS).filter(|key| is_secret && !key.is_empty())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{NetworkMode, Secret};

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/acd/JWT-AbCdEf";

    fn secret(name: &str, value_from: &str) -> Secret {
        Secret::builder().name(name).value_from(value_from).build().unwrap()
    }

    fn definition(containers: Vec<Vec<Secret>>) -> TaskDefinition {
        let containers = containers
            .into_iter()
            .enumerate()
            .map(|(n, secrets)| {
                let container = ContainerDefinition::builder().name(format!("c{n}")).image("app:1");
                container.set_secrets(Some(secrets)).build()
            })
            .collect();
        TaskDefinition::builder()
            .family("backend")
            .revision(6)
            .cpu("256")
            .network_mode(NetworkMode::Awsvpc)
            .set_container_definitions(Some(containers))
            .build()
    }

    fn pin(name: &str, version: &str) -> Pin {
        Pin { name: name.to_owned(), reference: format!("{ARN}:::{version}") }
    }

    #[test]
    fn a_pinned_definition_differs_in_the_named_references_only() {
        let before = definition(vec![
            vec![secret("JWT_SECRET", ARN), secret("OTHER", "arn:other")],
            vec![secret("JWT_SECRET", &format!("{ARN}:::old"))],
        ]);
        let pins = [pin("JWT_SECRET", "v2")];
        assert!(!are_shown(&before, &pins));
        let input = pinned(&before, &[], &pins).unwrap();
        let after = definition(vec![
            vec![secret("JWT_SECRET", &format!("{ARN}:::v2")), secret("OTHER", "arn:other")],
            vec![secret("JWT_SECRET", &format!("{ARN}:::v2"))],
        ]);
        assert!(is_registered(&after, &input));
        assert!(are_shown(&after, &pins));
        assert!(!is_registered(&before, &input));
        assert_eq!(input.get_cpu().as_deref(), Some("256"));
        assert_eq!(input.get_network_mode(), &Some(NetworkMode::Awsvpc));
    }

    #[test]
    fn the_json_key_that_a_container_reads_is_kept() {
        let before = definition(vec![vec![secret("DB_PASSWORD", &format!("{ARN}:password::"))]]);
        let pins = [pin("DB_PASSWORD", "v2")];
        let input = pinned(&before, &[], &pins).unwrap();
        let shown = &input.get_container_definitions().as_ref().unwrap()[0].secrets()[0];
        assert_eq!(shown.value_from(), format!("{ARN}:password::v2"));
        let after = definition(vec![vec![shown.clone()]]);
        assert!(are_shown(&after, &pins));
        let other_key = Pin { name: "DB_PASSWORD".to_owned(), reference: format!("{ARN}:user::v2") };
        assert_eq!(wanted(shown.value_from(), &other_key.reference), other_key.reference);
        assert_eq!(wanted("arn:aws:ssm:us-east-1:1:parameter/x", &pins[0].reference), pins[0].reference);
    }

    #[test]
    fn a_name_that_no_container_has_is_refused() {
        let before = definition(vec![vec![secret("OTHER", "arn:other")]]);
        let Err(Fault::Invalid { message }) = pinned(&before, &[], &[pin("JWT_SECRET", "v2")]) else {
            panic!("a definition without the name was taken")
        };
        assert!(message.contains("backend:6") && message.contains("JWT_SECRET"), "{message}");
        assert!(!are_shown(&before, &[pin("JWT_SECRET", "v2")]));
    }
}
