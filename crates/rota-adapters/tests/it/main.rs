//! The adapters against servers and files, real and fake.

mod checks;
mod checks_aws;
mod checks_suites;
mod docs;
mod ecs;
mod hooks;
mod lint;
mod messages;
mod notifiers;
mod policies;
mod rollouts;
mod rollouts_github;
mod rotators;
mod stores;
mod support;
