//! The CMA's own attempt to reach a host.

use liveness::center::Reached;
use model::PublicKey;
use model::liveness::PortState;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use wire::attempt::{Attempt, attempt};
use wire::endpoint::{CloseReason, Endpoint};

/// Where the kernel tells about the interfaces of this host (sysfs, `Documentation/ABI/testing/sysfs-class-net`).
const INTERFACES: &str = "/sys/class/net";
/// How long a nanoprobe that was reached may take to end the connection.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Dials the nanoprobe, which proves its key or does not; tries port and echo of the host meanwhile.
pub async fn reach(endpoint: Endpoint, address: SocketAddr, key: PublicKey, patience: Duration) -> Reached {
    if is_cut_off(address) {
        return Reached::WeAreCutOff;
    }
    let dial = timeout(patience, endpoint.connect_to(address, std::slice::from_ref(&key)));
    let other = attempt(address, patience);
    tokio::pin!(dial, other);
    let (dialled, mut found) = tokio::select! {
        dialled = &mut dial => (dialled, None),
        found = &mut other => {
            // Nobody listens: there is nothing to wait for.
            if found.port == PortState::Refused {
                return Reached::HostOnly;
            }
            (dial.await, Some(found))
        }
    };
    if let Ok(Ok(connection)) = dialled {
        // It ends the connection and comes with one of its own.
        tokio::spawn(async move {
            if timeout(ANSWER_PATIENCE, connection.closed()).await.is_err() {
                connection.close(CloseReason::TimedOut);
            }
        });
        return Reached::Nanoprobe;
    }
    if found.is_none() {
        found = Some(other.await);
    }
    match found {
        Some(Attempt { port: PortState::Refused, .. } | Attempt { echo: Some(true), .. }) => {
            Reached::HostOnly
        }
        // What was there when we began may be gone now.
        _ if is_cut_off(address) => Reached::WeAreCutOff,
        _ => Reached::Nobody,
    }
}

/// Whether the silence of this address may be our own fault: no network at all, or no way there.
fn is_cut_off(address: SocketAddr) -> bool {
    !address.ip().is_loopback() && (!has_carrier(Path::new(INTERFACES)) || has_no_route(address))
}

/// Whether any interface but the loopback is connected to something. Where the kernel does not tell, it is assumed.
fn has_carrier(interfaces: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(interfaces) else { return true };
    let carriers = entries.flatten().filter(|entry| entry.file_name() != "lo");
    // Reading fails with EINVAL while the interface is down.
    carriers.into_iter().any(|entry| {
        std::fs::read_to_string(entry.path().join("carrier")).is_ok_and(|text| text.trim() == "1")
    })
}

/// Connecting a UDP socket sends nothing; it looks up the route.
fn has_no_route(address: SocketAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address));
    connected.is_err_and(|error| error.kind() == ErrorKind::NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_connected_interface_is_a_network() {
        let home = tempfile::tempdir().unwrap();
        let interface = |name: &str, carrier: &str| {
            fs::create_dir_all(home.path().join(name)).unwrap();
            fs::write(home.path().join(name).join("carrier"), carrier).unwrap();
        };
        assert!(has_carrier(&home.path().join("missing")), "unknown");
        assert!(!has_carrier(home.path()), "no interface");
        interface("lo", "1\n");
        assert!(!has_carrier(home.path()), "the loopback leads nowhere");
        interface("eth0", "0\n");
        assert!(!has_carrier(home.path()), "the cable is out");
        interface("eth1", "1\n");
        assert!(has_carrier(home.path()));
    }

    #[test]
    fn what_answers_on_the_loopback_is_told_apart() {
        use wire::endpoint::EndpointConfig;
        use wire::keys::KeyPair;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let (cma, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
            let config = EndpointConfig { bind: any, join: None, ..EndpointConfig::cma(cma.clone()) };
            let (own, _inbox) = Endpoint::bind(config).unwrap();
            let config = EndpointConfig {
                bind: any,
                listen: true,
                ..EndpointConfig::nanoprobe(host.clone(), vec![cma.public()])
            };
            let (theirs, _their_inbox) = Endpoint::bind(config).unwrap();
            let address = theirs.local_address().unwrap();
            let patience = Duration::from_secs(20);
            let reached = reach(own.clone(), address, host.public(), patience).await;
            assert_eq!(reached, Reached::Nanoprobe);
            // Somebody else has the port.
            let reached = reach(own.clone(), address, cma.public(), Duration::from_secs(2)).await;
            assert_ne!(reached, Reached::Nanoprobe);
            theirs.close(CloseReason::Shutdown, Duration::from_secs(1)).await;
            drop((theirs, _their_inbox));
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(reach(own, address, host.public(), patience).await, Reached::HostOnly);
        });
    }
}
