//! Three servers that keep three copies of the stream, with ways between them that can be broken.

use std::collections::HashMap;

use crate::desk::Desk;
use crate::harness::wait_until;
use crate::link::Link;
use crate::server::{NEWEST, NatsServer, free_address};

const COUNT: usize = 3;

pub struct Cluster {
    pub servers: Vec<NatsServer>,
    /// By who connects, and to whom.
    routes: HashMap<(usize, usize), Link>,
}

impl Cluster {
    /// Starts it, and waits until it can make a stream.
    pub fn start() -> Self {
        let listens: Vec<_> = (0..COUNT).map(|_| free_address()).collect();
        let pairs = (0..COUNT).flat_map(|from| (0..COUNT).map(move |to| (from, to)));
        let routes: HashMap<_, _> =
            pairs.filter(|(from, to)| from != to).map(|pair| (pair, Link::to(listens[pair.1]))).collect();
        let server = |place: usize| {
            let others =
                (0..COUNT).filter(|to| *to != place).map(|to| format!("\"{}\"", routes[&(place, to)].url()));
            let others: Vec<String> = others.collect();
            // Nobody is told of a way past the links: where it says that others find it, there is nothing.
            let config = format!(
                "cluster {{ name: three, listen: \"{}\", no_advertise: true, cluster_advertise: \"127.0.0.1:1\", \
                 pool_size: -1, routes: [{}] }}",
                listens[place],
                others.join(", ")
            );
            let mut server = NatsServer::prepare(NEWEST, &format!("n{}", place + 1), &config);
            server.restart();
            server
        };
        let servers: Vec<NatsServer> = (0..COUNT).map(server).collect();
        let cluster = Self { servers, routes };
        let desk = cluster.desk();
        wait_until("the servers have found each other", || {
            desk.try_ask("INFO", "").is_some_and(|info| info.get("error").is_none())
        });
        cluster
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    pub fn desk(&self) -> Desk {
        Desk::new(self.urls())
    }

    /// The place of the server with this name.
    pub fn place(&self, name: &str) -> usize {
        self.servers.iter().position(|server| server.name == name).expect("it is one of these")
    }

    pub fn leader(&self) -> usize {
        self.place(&self.desk().leader())
    }

    /// None: nobody leads, or nobody says so.
    pub fn try_leader(&self) -> Option<usize> {
        let info = self.desk().try_ask("STREAM.INFO.LUXCAST", "")?;
        let name = info["cluster"]["leader"].as_str().filter(|name| !name.is_empty())?;
        Some(self.place(name))
    }

    /// Nothing comes from this server to the others, nor from them to it.
    pub fn isolate(&self, place: usize) {
        for (_, link) in self.routes.iter().filter(|((from, to), _)| *from == place || *to == place) {
            link.silence();
        }
    }

    pub fn heal(&self) {
        self.routes.values().for_each(Link::heal);
    }
}
