//! The tasks of all targets: one for each, which goes by a plan. A new configuration gives new plans to the targets that
//! stay, starts tasks for new ones, and lets those end that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{error, info};

use crate::alert::evaluator::EvaluatorSettings;
use crate::commands::seen::{self, Watched};
use crate::config::Config;
use crate::exposition::render::FamilySelection;
use crate::monitor::Target;
use crate::monitor::alerting::{Alerting, Alerts, Outlet};
use crate::monitor::plan::{Plan, Plans};
use crate::monitor::state::State;
use crate::self_metrics::SelfMetrics;
use crate::self_metrics::target::TargetMetrics;
use crate::state_file::Saved;
use redis_stream_core::clock::unix_time;

/// Wait before a target whose task panicked is begun anew.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// What readers see of all targets, in the order of the configuration.
pub(super) type Targets = Arc<[Watched]>;

/// What the tasks of all targets share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) layout: Arc<FamilySelection>,
    pub(super) metrics: SelfMetrics,
    pub(super) outlet: Outlet,
}

/// The tasks of all targets.
pub(super) struct Fleet {
    common: Common,
    members: Vec<Member>,
    targets: watch::Sender<Targets>,
    tasks: JoinSet<()>,
}

/// A target that is polled.
struct Member {
    plans: watch::Sender<Option<Arc<Plan>>>,
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Fleet {
    /// Starts a task for each target, with the alerts that were saved.
    pub(super) async fn start(config: &Config, common: Common, saved: Option<&Saved>) -> Self {
        let mut fleet =
            Self { common, members: Vec::new(), targets: watch::Sender::default(), tasks: JoinSet::new() };
        for plan in plans(config) {
            let member = fleet.join(plan, saved).await;
            fleet.members.push(member);
        }
        fleet.show();
        fleet
    }

    /// The targets that there are now.
    pub(super) fn targets(&self) -> watch::Receiver<Targets> {
        self.targets.subscribe()
    }

    /// Lets the targets go by a new configuration. One that polls the same database of the same server under the same
    /// name goes on with all that it knows; what is not there any more ends, and its alerts with it.
    pub(super) async fn follow(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.members);
        let mut joining = Vec::new();
        for plan in plans(config) {
            let same = before.iter().position(|member| {
                !member.task.is_finished()
                    && member.plans.borrow().as_ref().is_some_and(|other| other.is_of_same_target(&plan))
            });
            joining.push((plan, same.map(|at| before.swap_remove(at))));
        }
        // Before new ones of the same name begin.
        for member in before {
            self.leave(member).await;
        }
        for (plan, member) in joining {
            let member = match member {
                Some(member) => {
                    member.plans.send_if_modified(|current| {
                        let is_new = current.as_deref() != Some(&plan);
                        if is_new {
                            *current = Some(Arc::new(plan));
                        }
                        is_new
                    });
                    member
                }
                None => self.join(plan, None).await,
            };
            self.members.push(member);
        }
        self.show();
        // Those that have ended.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Ends all tasks as they are: alerts go on after a restart.
    pub(super) async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
    }

    async fn join(&mut self, plan: Plan, saved: Option<&Saved>) -> Member {
        let Common { layout, metrics, outlet } = self.common.clone();
        let name = plan.target.name.clone();
        let mut evaluator = plan.evaluator();
        if let Some(saved) = saved {
            evaluator.resume(saved.alerts.iter().cloned(), saved.saved_at);
        }
        let (state, watched) =
            watch::channel(State { alerts: Alerts::of(&evaluator).await, ..State::default() });
        // Here, not in the task: they are there from the first scrape on.
        let target_metrics = metrics.for_target(&name, &plan.label_values());
        let (plans, following) = watch::channel(Some(Arc::new(plan)));
        let task = self.tasks.spawn(keep_running(following, layout, target_metrics, Arc::new(state), outlet));
        Member { plans, state: watched, task }
    }

    /// Lets a task end in order, in which it says that its alerts are over.
    async fn leave(&mut self, mut member: Member) {
        let name = member.plans.borrow().as_ref().map(|plan| plan.target.name.clone());
        member.plans.send_replace(None);
        // The task drops the other side when it ends.
        while member.state.changed().await.is_ok() {}
        info!(target_name = name, "target is not polled any more");
    }

    fn show(&self) {
        let watched = |member: &Member| {
            let plan = member.plans.borrow();
            plan.as_ref().map(|plan| (Arc::clone(&plan.labels), member.state.clone()))
        };
        self.targets.send_replace(self.members.iter().filter_map(watched).collect());
    }
}

/// What each target is to go by.
pub(super) fn plans(config: &Config) -> impl Iterator<Item = Plan> + '_ {
    let Config { alerts, poll, .. } = config;
    config.targets.iter().map(move |target| Plan {
        labels: Arc::new(seen::labels(target)),
        target: Arc::new(target.clone()),
        poll: poll.clone(),
        rules: alerts.rules.clone(),
        settings: EvaluatorSettings {
            hold: alerts.hold,
            external_labels: alerts.external_labels.clone(),
            interval: poll.interval,
        },
    })
}

/// Runs a target's task until it leaves, and begins it anew should it panic: a defect that one target's data brings to
/// light must not end the others.
async fn keep_running(
    plans: Plans,
    layout: Arc<FamilySelection>,
    metrics: TargetMetrics,
    state: Arc<watch::Sender<State>>,
    outlet: Outlet,
) {
    loop {
        let Some(plan) = plans.borrow().clone() else { return metrics.forget() };
        // What was pending or firing before goes on.
        let mut evaluator = plan.evaluator();
        let active = Arc::clone(&state.borrow().alerts.active);
        evaluator.resume(active.alerts(), unix_time());
        let alerting = Alerting::new(evaluator, Arc::clone(&outlet));
        let (layout, target_metrics) = (Arc::clone(&layout), metrics.with_labels(&plan.label_values()));
        let target = Arc::clone(&plan.target);
        let running = Target::new(target, plan.poll.clone(), layout, target_metrics, Arc::clone(&state))
            .with_alerting(alerting)
            .run(plans.clone());
        // In a set of its own, so that it ends with this future.
        let mut task = JoinSet::new();
        task.spawn(running);
        let Some(Err(panic)) = task.join_next().await else { return };
        metrics.with_labels(&plan.label_values()).set_up(false);
        error!(target_name = %plan.target.name, error = %panic, "task of the target panicked; restarting it");
        sleep(RESTART_PAUSE).await;
    }
}
