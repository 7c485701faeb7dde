//! `probe`: one connection taken apart.

mod draw;
mod report;

use std::time::Duration;

use ipreconnect::core::address::Address;
use ipreconnect::inspect::{self, Inspection, Terms, Warmed};
use ipreconnect::resolve::{DnsSettings, Dnssec, Names};
use ipreconnect::tls::TlsSettings;
use ipreconnect::{OriginSettings, Target};
use tokio::runtime::Handle;

use crate::args::{Arguments, Probe};
use crate::config::names_and_origins;
use crate::exit::{Exit, Refusal};
use report::{Report, Rounds};

/// How long a server may take to speak first.
const FIRST_BYTE: Duration = Duration::from_millis(500);

/// Takes the connection apart and shows it. Fine if there is one, and every limit holds.
pub(crate) fn probe(arguments: &Arguments, probe: &Probe) -> Result<Exit, Refusal> {
    let environment = arguments.environment();
    let (mut dns, origins) = names_and_origins(arguments.config.as_deref(), &environment)
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))?;
    if !probe.resolver.is_empty() {
        dns = DnsSettings {
            servers: probe.resolver.clone(),
            dnssec: match probe.dnssec.as_deref() {
                Some("validate") => Dnssec::Validate,
                Some("require") => Dnssec::Require,
                _ => Dnssec::Off,
            },
            trust_anchor: dns.trust_anchor,
            ..DnsSettings::default()
        };
    }
    let settings = match origins.get(&probe.address) {
        Some(plan) => plan.settings.clone(),
        None => {
            let plain = probe.address.strip_prefix("tls://");
            let mut settings = OriginSettings::new([target(plain.unwrap_or(&probe.address))?]);
            settings.tls = plain.map(|_| TlsSettings::default());
            settings
        }
    };
    let reports = super::block_on(async {
        let names = Names::start(&Handle::current(), dns, None);
        let mut reports = Vec::with_capacity(settings.places.len());
        for place in &settings.places {
            reports.push(take_apart(&names, &place.target, &settings, probe).await);
        }
        Ok(reports)
    })?;
    if arguments.json {
        super::print_json(&report::all(&reports));
    } else {
        for report in &reports {
            print!("{}", draw::draw(report));
        }
    }
    Ok(if reports.iter().all(Report::is_fine) {
        Exit::Fine
    } else {
        Exit::NotFine
    })
}

fn target(text: &str) -> Result<Target, Refusal> {
    text.parse().map_err(|error| {
        Refusal::new(Exit::Wrong, format!("cannot probe {text:?}: {error}")).hint(
            "write host:port, tls://host:port, ip:port, unix:/path, srv:_service._tcp.domain, or the name of an origin of the configuration",
        )
    })
}

async fn take_apart(
    names: &Names,
    target: &Target,
    settings: &OriginSettings,
    probe: &Probe,
) -> Report {
    let terms = Terms {
        policy: settings.addresses.clone(),
        timeout: settings.supervisor.connect_timeout,
        attempt_delay: settings.attempt_delay,
        first_byte: FIRST_BYTE,
        tls: settings.tls.clone(),
    };
    let inspection = inspect::inspect(names, target, &terms).await;
    let mut report = Report::new(target.to_string(), &inspection, &probe.slo);
    if probe.cold > 0 {
        report.cold = Some(cold(names, target, &terms, probe.cold).await);
    }
    if let (1.., Some(address)) = (probe.warm, winner(&inspection)) {
        let warmed = Warmed::new(target, &address, &terms);
        report.warm = Some(warm(&warmed, probe.warm).await);
    }
    report.judge(&probe.slo);
    report
}

fn winner(inspection: &Inspection) -> Option<Address> {
    inspection.winner().map(|winner| winner.address.clone())
}

async fn cold(names: &Names, target: &Target, terms: &Terms, rounds: u32) -> Rounds {
    let mut told = Rounds::default();
    for _ in 0..rounds {
        told.add(inspect::cold(names, target, terms).await);
    }
    told.measured()
}

async fn warm(warmed: &Warmed, rounds: u32) -> Rounds {
    // The session that is resumed is that of a connection before.
    let _ = warmed.connect().await;
    let mut told = Rounds::default();
    for _ in 0..rounds {
        told.add(warmed.connect().await);
    }
    told.measured()
}
