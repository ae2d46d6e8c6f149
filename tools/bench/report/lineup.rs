//! Which servers are compared in a scenario: those that did the same work, in the order of the page.

use std::cmp::Ordering;

use crate::result::{Better, Figure, Role, Scenario, ServerResult};

/// Servers whose figures may be compared with each other.
pub struct Group<'a> {
    /// What all of them did ("500/s"); empty if their names do not say.
    pub name: &'a str,
    /// luxcast first, then the floors, then the peers, best first.
    pub members: Vec<Member<'a>>,
}

#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Without what the group's name already says.
    pub name: &'a str,
    pub server: &'a ServerResult,
}

/// A figure over the runs that have a value.
#[derive(Clone, Copy)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

/// The figure by which a scenario is compared, as its servers describe it.
pub struct Primary<'a> {
    pub name: &'a str,
    pub label: &'a str,
    pub unit: &'a str,
    pub better: Better,
}

impl Spread {
    pub fn of(figure: &Figure) -> Option<Spread> {
        let mut values: Vec<f64> = figure.values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Spread { low: *values.first()?, median: values[values.len() / 2], high: *values.last()? })
    }
}

impl<'a> Primary<'a> {
    pub fn of(scenario: &'a Scenario) -> Primary<'a> {
        let name = scenario.primary.as_str();
        match scenario.servers.iter().find_map(|server| server.figure(name)) {
            Some(figure) => Primary { name, label: &figure.label, unit: &figure.unit, better: figure.better },
            None => Primary { name, label: name, unit: "", better: Better::Neither },
        }
    }

    /// The first figure of a scenario for which this is true.
    pub fn first(scenario: &'a Scenario, is_it: impl Fn(&Figure) -> bool) -> Option<Primary<'a>> {
        let figure =
            scenario.servers.iter().flat_map(|server| &server.figures).find(|figure| is_it(figure))?;
        let Figure { name, label, unit, better, .. } = figure;
        Some(Primary { name, label, unit, better: *better })
    }

    pub fn spread(&self, server: &ServerResult) -> Option<Spread> {
        server.figure(self.name).and_then(Spread::of)
    }

    pub fn median(&self, server: &ServerResult) -> Option<f64> {
        self.spread(server).map(|spread| spread.median)
    }

    /// Better first; members without a value last.
    fn order(&self, left: &ServerResult, right: &ServerResult) -> Ordering {
        match (self.median(left), self.median(right)) {
            (Some(left), Some(right)) if self.better == Better::Higher => right.total_cmp(&left),
            (Some(left), Some(right)) if self.better == Better::Lower => left.total_cmp(&right),
            (left, right) => left.is_none().cmp(&right.is_none()),
        }
    }
}

impl<'a> Group<'a> {
    /// The luxcast that the others are compared with.
    pub fn luxcast(&self, primary: &Primary) -> Option<Member<'a>> {
        self.first(Role::Luxcast, primary)
    }

    pub fn floor(&self, primary: &Primary) -> Option<Member<'a>> {
        self.first(Role::Floor, primary)
    }

    /// The best peer without losses.
    pub fn best_peer(&self, primary: &Primary) -> Option<Member<'a>> {
        let is_sound = |member: &Member| member.server.role == Role::Peer && member.server.error.is_none();
        self.members
            .iter()
            .copied()
            .find(|member| is_sound(member) && primary.median(member.server).is_some())
    }

    /// The ratio of a member's figure to luxcast's.
    pub fn ratio(&self, member: Member, primary: &Primary) -> Option<f64> {
        let luxcast = primary.median(self.luxcast(primary)?.server)?;
        let ratio = primary.median(member.server)? / luxcast;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    fn first(&self, role: Role, primary: &Primary) -> Option<Member<'a>> {
        let has_value = |member: &Member| primary.median(member.server).is_some();
        self.members.iter().copied().find(|member| member.server.role == role && has_value(member))
    }
}

/// Groups by what follows the last comma of the names ("luxcast, 500/s", "floor, 1 event a send, 500/s"), if luxcast
/// and others share several of these. Members without one come first, or last if luxcast is not among them. Otherwise
/// all are in one group.
pub fn groups<'a>(scenario: &'a Scenario, primary: &Primary) -> Vec<Group<'a>> {
    let names = group_names(scenario);
    let mut groups: Vec<Group> = names.iter().map(|name| Group { name, members: Vec::new() }).collect();
    let mut others = Group { name: "", members: Vec::new() };
    for server in &scenario.servers {
        let (name, work) = split(&server.name);
        match groups.iter_mut().find(|group| group.name == work) {
            Some(group) => group.members.push(Member { name, server }),
            None => others.members.push(Member { name: &server.name, server }),
        }
    }
    if others.members.iter().any(|member| member.server.role == Role::Luxcast) || names.is_empty() {
        groups.insert(0, others);
    } else if !others.members.is_empty() {
        groups.push(Group { name: "others", ..others });
    }
    for group in &mut groups {
        group.members.sort_by(|left, right| {
            let rank = |member: &Member| member.server.role as u8;
            let by_figure = || match left.server.role {
                Role::Peer => primary.order(left.server, right.server),
                Role::Luxcast | Role::Floor => Ordering::Equal,
            };
            rank(left).cmp(&rank(right)).then_with(by_figure)
        });
    }
    groups
}

/// What luxcast and another member both did, in order; empty unless there are at least two such things.
fn group_names(scenario: &Scenario) -> Vec<&str> {
    let mut names = Vec::new();
    for luxcast in scenario.servers.iter().filter(|server| server.role == Role::Luxcast) {
        let (_, work) = split(&luxcast.name);
        let is_other = |server: &ServerResult| server.role != Role::Luxcast && split(&server.name).1 == work;
        if !work.is_empty() && !names.contains(&work) && scenario.servers.iter().any(is_other) {
            names.push(work);
        }
    }
    if names.len() < 2 { Vec::new() } else { names }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once(", ").unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::{Primary, Spread, groups};
    use crate::report::sample;
    use crate::result::{Role, Scenario};

    fn lineup(scenario: &Scenario) -> Vec<String> {
        let in_words = |group: super::Group| {
            let members: Vec<&str> = group.members.iter().map(|member| member.name).collect();
            format!("{}: {}", group.name, members.join("; "))
        };
        groups(scenario, &Primary::of(scenario)).into_iter().map(in_words).collect()
    }

    #[test]
    fn peers_come_last_and_the_best_first() {
        let mut scenario = sample::scenario("fanout");
        scenario.servers = vec![
            sample::server("slow", Role::Peer, &[9.0]),
            sample::server("none", Role::Peer, &[]),
            sample::server("fast", Role::Peer, &[4.0]),
            sample::server("floor, 1 event a send", Role::Floor, &[2.0]),
            sample::server("luxcast", Role::Luxcast, &[0.5]),
        ];
        assert_eq!(lineup(&scenario), [": luxcast; floor, 1 event a send; fast; slow; none"]);
        let (primary, groups) = (Primary::of(&scenario), groups(&scenario, &Primary::of(&scenario)));
        assert_eq!(groups[0].best_peer(&primary).map(|member| member.name), Some("fast"));
        assert_eq!(groups[0].ratio(groups[0].members[3], &primary), Some(18.0));
        assert_eq!(groups[0].ratio(groups[0].members[4], &primary), None);
    }

    #[test]
    fn servers_that_did_the_same_are_one_group() {
        let mut scenario = sample::scenario("latency");
        scenario.servers = vec![
            sample::server("luxcast, 50/s", Role::Luxcast, &[1.0]),
            sample::server("floor, 1 event a send, 50/s", Role::Floor, &[1.0]),
            sample::server("luxcast, 500/s", Role::Luxcast, &[1.0]),
            sample::server("ws, 500/s", Role::Peer, &[1.0]),
            sample::server("alone", Role::Peer, &[1.0]),
        ];
        assert_eq!(
            lineup(&scenario),
            ["50/s: luxcast; floor, 1 event a send", "500/s: luxcast; ws", "others: alone"]
        );
        scenario.servers.push(sample::server("luxcast", Role::Luxcast, &[1.0]));
        assert_eq!(lineup(&scenario)[0], ": luxcast; alone");
    }

    #[test]
    fn a_spread_leaves_out_what_is_no_number() {
        let server = sample::server("a", Role::Peer, &[3.0, f64::NAN, 1.0, f64::INFINITY, 2.0]);
        let spread = Spread::of(&server.figures[0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.0, 3.0));
        assert!(Spread::of(&sample::server("a", Role::Peer, &[f64::NAN]).figures[0]).is_none());
    }
}
