//! Whether an address of a host may be dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use ipreconnect::Vet;
use ipreconnect::core::forward::{Denial, ForwardPolicy, Standing, Target};

use super::{ForwardPlan, Own, Refusal};

/// Why nobody goes through a proxy to that proxy.
pub(super) const ITSELF: &str = "it is this proxy itself";

/// Judges the addresses of one host.
#[derive(Debug)]
pub(super) struct Judge {
    policy: Arc<ForwardPolicy>,
    own: Arc<Own>,
    standing: Standing,
    port: u16,
    is_enforced: bool,
    /// Why nobody might go there as it is written, where that is only told.
    denial: OnceLock<Denial>,
    /// Why nobody might go to the first of its addresses that is none of those that are allowed.
    by_address: OnceLock<Denial>,
    /// One of its addresses is.
    passes: AtomicBool,
}

impl Judge {
    /// Judges the host as it is written.
    pub(super) fn new(
        plan: &ForwardPlan,
        target: &Target,
        own: Arc<Own>,
    ) -> Result<Arc<Self>, Refusal> {
        let judge = Self {
            policy: Arc::clone(&plan.policy),
            own,
            standing: Standing::Welcome,
            port: target.port,
            is_enforced: plan.is_enforced,
            denial: OnceLock::new(),
            by_address: OnceLock::new(),
            passes: AtomicBool::new(false),
        };
        match plan.policy.judge(target) {
            Ok(standing) => Ok(Arc::new(Self { standing, ..judge })),
            Err(denial) if plan.is_enforced => Err(Refusal::denied(target, &denial)),
            Err(denial) => {
                let _ = judge.denial.set(denial);
                Ok(Arc::new(judge))
            }
        }
    }

    /// Whether only its address can say whether it is allowed: nobody else may look it up.
    pub(super) fn needs_address(&self) -> bool {
        self.standing == Standing::ByAddress
    }

    /// What is left to its addresses.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Why nobody might go there, where that is only told.
    pub(super) fn would_be(&self) -> Option<&Denial> {
        let by_address = || {
            let denial = self.by_address.get();
            denial.filter(|_| !self.passes.load(Relaxed))
        };
        self.denial.get().or_else(by_address)
    }
}

impl Vet for Judge {
    fn vet(&self, ip: IpAddr) -> Result<(), String> {
        // Whatever the rules are: what comes from us is not for us.
        if self.own.is(SocketAddr::new(ip, self.port)) {
            return Err(ITSELF.to_owned());
        }
        match self.policy.judge_address(ip, self.standing) {
            Ok(()) => {
                self.passes.store(true, Relaxed);
                Ok(())
            }
            Err(denial) if self.is_enforced => Err(denial.to_string()),
            Err(denial) => {
                // The first one is told of.
                let _ = self.by_address.set(denial);
                Ok(())
            }
        }
    }
}
