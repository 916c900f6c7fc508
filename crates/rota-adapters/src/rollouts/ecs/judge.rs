//! Whether every task of a service is new, judged from what ECS lists.
//!
//! Pure: what was listed comes in, the verdict and what to remember go out. The
//! rules are explained in docs/rollouts/ecs.md.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rota_engine::ports::RolloutStatus;
use serde::{Deserialize, Serialize};

/// Two listings this far apart have to agree: ECS shows changes eventually.
pub(super) const LISTINGS_APART: SignedDuration = SignedDuration::from_secs(15);

/// One deployment of a service, as `DescribeServices` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) is_primary: bool,
    pub(super) state: DeploymentState,
    /// ECS says that this deployment puts an earlier one back.
    pub(super) rolls_back: bool,
    pub(super) failed_tasks: i32,
    pub(super) running: i32,
    pub(super) desired: i32,
    pub(super) definition: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeploymentState {
    InProgress,
    Completed,
    Failed,
}

/// One task of a service under either desired status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) last_status: String,
    pub(super) created_at: Option<Timestamp>,
    /// The deployment that made it.
    pub(super) started_by: String,
    pub(super) definition: String,
}

/// What one observation leaves for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The deployment that is followed: the one that was begun, or one put over it.
    pub(super) deployment: String,
    /// Its failed tasks at the last look.
    #[serde(default)]
    pub(super) failed_tasks: i32,
    /// When a listing first showed no old task, where all since have agreed.
    #[serde(default)]
    pub(super) clean_since: Option<Timestamp>,
}

/// What the rules look at.
pub(super) struct Listing<'a> {
    pub(super) deployments: &'a [Deployment],
    pub(super) tasks: &'a [Task],
    /// What ECS wrote down about the service lately: it stays when a deployment is gone.
    pub(super) events: &'a [String],
    /// The definitions whose references are exactly those that are wanted; `None`
    /// where nothing is pinned.
    pub(super) pinned: Option<&'a BTreeSet<String>>,
    /// A task created before this, by ECS's clock, may have read the old value.
    pub(super) new_from: Timestamp,
    /// The deployment that was begun for this rollout, after that time by the
    /// journal's clock: its tasks are new whatever ECS's clock says.
    pub(super) begun: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// How far the deployment of `memory` is, and what to remember.
pub(super) fn judge(listing: &Listing<'_>, memory: &Memory) -> (RolloutStatus, Memory) {
    let followed = match follow(listing, memory) {
        Ok(followed) => followed,
        Err(detail) => return (RolloutStatus::Failed { detail }, memory.clone()),
    };
    let mut next = Memory {
        deployment: followed.id.clone(),
        failed_tasks: followed.failed_tasks,
        clean_since: memory.clean_since.filter(|_| followed.id == memory.deployment),
    };
    if let Some(pinned) = listing.pinned
        && !pinned.contains(&followed.definition)
    {
        let detail = format!(
            "deployment {} runs {}, which does not show the pinned versions; deploy from the revision that was \
             registered for this rotation",
            followed.id,
            short(&followed.definition)
        );
        return (RolloutStatus::Failed { detail }, next);
    }
    let waiting = match followed.state {
        DeploymentState::Failed => {
            let detail = format!(
                "deployment {} failed after {} failed tasks; look at the service's events",
                followed.id, followed.failed_tasks
            );
            return (RolloutStatus::Failed { detail }, next);
        }
        DeploymentState::InProgress => Some(format!(
            "deployment {}: {} of {} tasks run",
            followed.id, followed.running, followed.desired
        )),
        DeploymentState::Completed => old_tasks(listing),
    };
    if let Some(detail) = waiting {
        next.clean_since = None;
        return (RolloutStatus::UnderWay { detail }, next);
    }
    let since = *next.clean_since.get_or_insert(listing.now);
    let status = if listing.now.duration_since(since) >= LISTINGS_APART {
        RolloutStatus::Finished
    } else {
        RolloutStatus::UnderWay { detail: format!("deployment {} is looked at once more", followed.id) }
    };
    (status, next)
}

/// The deployment to look at: the remembered one while it is the service's newest,
/// else the one that a person or a pipeline put over it. What ECS itself puts back
/// is a failure.
fn follow<'a>(listing: &Listing<'a>, memory: &Memory) -> Result<&'a Deployment, String> {
    let deployments = listing.deployments;
    let ours = deployments.iter().find(|deployment| deployment.id == memory.deployment);
    if let Some(ours) = ours
        && (ours.is_primary || ours.state == DeploymentState::Failed)
    {
        return Ok(ours);
    }
    let Some(primary) = deployments.iter().find(|deployment| deployment.is_primary) else {
        return Err(format!("deployment {} is gone and nothing took its place", memory.deployment));
    };
    let failing = ours.is_none() && memory.failed_tasks > 0;
    // Between two looks a deployment may fail, be put back and be forgotten.
    let given_up = listing.events.iter().any(|event| says_failed(event, &memory.deployment));
    if primary.rolls_back || failing || given_up {
        return Err(format!(
            "deployment {} failed and {} put back what ran before; look at the service's events",
            memory.deployment, primary.id
        ));
    }
    Ok(primary)
}

/// `(service backend) (deployment ecs-svc/123) deployment failed: tasks failed to start.`
/// ("Amazon ECS service event messages").
fn says_failed(event: &str, deployment: &str) -> bool {
    event.contains(&format!("(deployment {deployment})")) && event.contains("deployment failed")
}

/// What is still there of before, where anything is. A task whose age or definition
/// ECS does not tell counts as old.
fn old_tasks(listing: &Listing<'_>) -> Option<String> {
    let alive: Vec<&Task> = listing.tasks.iter().filter(|task| task.last_status != "STOPPED").collect();
    let is_old = |task: &&&Task| {
        let ours = listing.begun.is_some_and(|begun| begun == task.started_by);
        let young = ours || task.created_at.is_some_and(|created| created >= listing.new_from);
        let pinned = listing.pinned.is_none_or(|pinned| pinned.contains(&task.definition));
        !(young && pinned)
    };
    let old = alive.iter().filter(is_old).count();
    (old > 0).then(|| format!("{old} of {} tasks are from before and have not stopped", alive.len()))
}

/// `family:revision` of a task definition's ARN.
pub(super) fn short(definition: &str) -> &str {
    definition.rsplit('/').next().unwrap_or(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "ecs-svc/2";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_768_471_200 + seconds).unwrap()
    }

    fn deployment(id: &str, is_primary: bool, state: DeploymentState) -> Deployment {
        Deployment {
            id: id.to_owned(),
            is_primary,
            state,
            rolls_back: false,
            failed_tasks: 0,
            running: 1,
            desired: 2,
            definition: "arn:aws:ecs:us-east-1:1:task-definition/backend:7".to_owned(),
        }
    }

    fn task(last_status: &str, created: Option<i64>) -> Task {
        Task {
            last_status: last_status.to_owned(),
            created_at: created.map(at),
            started_by: "ecs-svc/1".to_owned(),
            definition: "arn:aws:ecs:us-east-1:1:task-definition/backend:7".to_owned(),
        }
    }

    fn memory() -> Memory {
        Memory { deployment: OURS.to_owned(), ..Memory::default() }
    }

    fn look(
        deployments: &[Deployment],
        tasks: &[Task],
        memory: &Memory,
        now: i64,
    ) -> (RolloutStatus, Memory) {
        let listing = Listing { deployments, tasks, ..listing(now) };
        judge(&listing, memory)
    }

    /// Nothing is there and nothing is pinned.
    fn listing<'a>(now: i64) -> Listing<'a> {
        Listing {
            deployments: &[],
            tasks: &[],
            events: &[],
            pinned: None,
            new_from: at(60),
            begun: Some(OURS),
            now: at(now),
        }
    }

    fn is_under_way(status: &RolloutStatus) -> bool {
        matches!(status, RolloutStatus::UnderWay { .. })
    }

    fn failure(status: &RolloutStatus) -> &str {
        match status {
            RolloutStatus::Failed { detail } => detail,
            other => panic!("{other:?} is not a failure"),
        }
    }

    #[test]
    fn finished_needs_two_clean_listings_apart() {
        let deployments = [deployment(OURS, true, DeploymentState::Completed)];
        let tasks = [task("RUNNING", Some(60)), task("STOPPED", Some(0))];
        let (status, first) = look(&deployments, &tasks, &memory(), 100);
        assert!(is_under_way(&status));
        let (status, second) = look(&deployments, &tasks, &first, 114);
        assert!(is_under_way(&status), "14 s are not far enough apart");
        let (status, _) = look(&deployments, &tasks, &second, 115);
        assert_eq!(status, RolloutStatus::Finished);
    }

    #[test]
    fn an_old_task_that_shows_again_starts_the_count_anew() {
        let deployments = [deployment(OURS, true, DeploymentState::Completed)];
        let clean = [task("RUNNING", Some(60))];
        let (_, first) = look(&deployments, &clean, &memory(), 100);
        let draining = [task("RUNNING", Some(60)), task("DEACTIVATING", Some(0))];
        let (status, second) = look(&deployments, &draining, &first, 120);
        assert!(is_under_way(&status));
        let (status, third) = look(&deployments, &clean, &second, 140);
        assert!(is_under_way(&status));
        assert_eq!(look(&deployments, &clean, &third, 155).0, RolloutStatus::Finished);
    }

    #[test]
    fn every_task_that_has_not_stopped_counts_whatever_ecs_wants_of_it() {
        let deployments = [deployment(OURS, true, DeploymentState::Completed)];
        let earlier = Memory { clean_since: Some(at(0)), ..memory() };
        for status in
            ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING"]
        {
            for created in [Some(59), None] {
                let tasks = [task("RUNNING", Some(61)), task(status, created)];
                assert!(is_under_way(&look(&deployments, &tasks, &earlier, 100).0), "{status} {created:?}");
            }
        }
        let tasks = [task("STOPPED", Some(59)), task("STOPPED", None)];
        assert_eq!(look(&deployments, &tasks, &earlier, 100).0, RolloutStatus::Finished);
    }

    #[test]
    fn tasks_of_the_deployment_that_was_begun_are_new_though_ecs_has_a_slow_clock() {
        let deployments = [deployment(OURS, true, DeploymentState::Completed)];
        let earlier = Memory { clean_since: Some(at(0)), ..memory() };
        let ours = Task { started_by: OURS.to_owned(), ..task("RUNNING", Some(55)) };
        assert_eq!(look(&deployments, std::slice::from_ref(&ours), &earlier, 100).0, RolloutStatus::Finished);
        let theirs = Task { started_by: "ecs-svc/1".to_owned(), ..ours };
        assert!(is_under_way(&look(&deployments, &[theirs], &earlier, 100).0));
    }

    #[test]
    fn a_deployment_that_is_not_completed_is_not_finished_however_its_tasks_look() {
        let earlier = Memory { clean_since: Some(at(0)), ..memory() };
        let deployments = [deployment(OURS, true, DeploymentState::InProgress)];
        let (status, next) = look(&deployments, &[task("RUNNING", Some(60))], &earlier, 100);
        assert!(is_under_way(&status));
        assert_eq!(next.clean_since, None);
    }

    #[test]
    fn a_failed_deployment_fails_the_rollout_while_it_is_shown() {
        let mut ours = deployment(OURS, false, DeploymentState::Failed);
        ours.failed_tasks = 3;
        let mut back = deployment("ecs-svc/3", true, DeploymentState::Completed);
        back.rolls_back = true;
        let (status, _) = look(&[back, ours], &[], &memory(), 100);
        assert!(failure(&status).contains("failed after 3 failed tasks"));
    }

    #[test]
    fn what_a_circuit_breaker_put_back_is_not_finished_though_it_is_stable() {
        let mut back = deployment("ecs-svc/3", true, DeploymentState::Completed);
        back.rolls_back = true;
        let (status, _) = look(std::slice::from_ref(&back), &[task("RUNNING", Some(60))], &memory(), 100);
        assert!(failure(&status).contains("put back"));

        // ECS has stopped saying why; the failed tasks of the last look tell.
        back.rolls_back = false;
        let failing = Memory { failed_tasks: 2, ..memory() };
        assert!(failure(&look(&[back], &[], &failing, 100).0).contains("put back"));
    }

    #[test]
    fn what_failed_and_was_put_back_between_two_looks_is_told_by_the_events() {
        let back = deployment("ecs-svc/3", true, DeploymentState::Completed);
        let tasks = [task("RUNNING", Some(60))];
        let judged = |event: &str| {
            let events = [event.to_owned()];
            let listing = Listing {
                deployments: std::slice::from_ref(&back),
                tasks: &tasks,
                events: &events,
                ..listing(100)
            };
            judge(&listing, &memory()).0
        };
        let failed = "(service backend) (deployment ecs-svc/2) deployment failed: tasks failed to start.";
        assert!(failure(&judged(failed)).contains("put back"));
        assert!(is_under_way(&judged(&failed.replace("ecs-svc/2", "ecs-svc/20"))), "another deployment's");
        assert!(is_under_way(&judged("(service backend) has reached a steady state.")));
    }

    #[test]
    fn a_deployment_that_a_pipeline_put_over_ours_is_followed_from_scratch() {
        let mut ours = deployment(OURS, false, DeploymentState::InProgress);
        ours.failed_tasks = 1;
        let theirs = deployment("ecs-svc/3", true, DeploymentState::Completed);
        let earlier = Memory { clean_since: Some(at(0)), ..memory() };
        let tasks = [task("RUNNING", Some(60))];
        let (status, next) = look(&[theirs.clone(), ours], &tasks, &earlier, 100);
        assert!(is_under_way(&status), "its own two listings are needed");
        assert_eq!((next.deployment.as_str(), next.clean_since), ("ecs-svc/3", Some(at(100))));
        assert_eq!(look(&[theirs], &tasks, &next, 115).0, RolloutStatus::Finished);
    }

    #[test]
    fn a_service_without_deployments_has_failed() {
        assert!(failure(&look(&[], &[], &memory(), 100).0).contains("gone"));
    }

    #[test]
    fn pinned_tasks_are_judged_by_their_definition_too() {
        let ours = deployment(OURS, true, DeploymentState::Completed);
        let pinned = BTreeSet::from([ours.definition.clone()]);
        let earlier = Memory { clean_since: Some(at(0)), ..memory() };
        let look = |deployment: &Deployment, tasks: &[Task]| {
            let listing = Listing {
                deployments: std::slice::from_ref(deployment),
                tasks,
                pinned: Some(&pinned),
                begun: None,
                ..listing(100)
            };
            judge(&listing, &earlier).0
        };
        assert_eq!(look(&ours, &[task("RUNNING", Some(60))]), RolloutStatus::Finished);
        let other = Task { definition: "backend:6".to_owned(), ..task("RUNNING", Some(70)) };
        assert!(is_under_way(&look(&ours, &[task("RUNNING", Some(60)), other])));
        let overlaid = Deployment { definition: "x/backend:8".to_owned(), ..ours };
        assert!(failure(&look(&overlaid, &[])).contains("backend:8"));
    }
}
