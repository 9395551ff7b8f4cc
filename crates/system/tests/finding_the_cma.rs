//! How nanoprobes find the CMA, and ports, as the article tells: `--cmaaddr` in its three forms and repeated,
//! `--bind` on both, an ephemeral port where 1984 is taken.

use std::net::UdpSocket;
use std::time::Duration;
use system::network::Network;
use system::process::{Running, capture};
use system::site::{Programs, Site, last_lines};
use system::wait_for;
use wire::hello::{HELLO_BYTES, Hello};

fn registered(site: &Site, name: &str, nanoprobe: &mut Running) {
    let statement = format!("SELECT host FROM hosts WHERE host = '{name}' AND status = 'up'");
    wait_for(&format!("{name} to register"), Duration::from_secs(30), || {
        nanoprobe
            .still_running()
            .unwrap_or_else(|e| panic!("{e}\n{}", last_lines(&site.log(&format!("nanoprobe-{name}")))));
        (site.count(&statement) == 1).then_some(())
    })
    .unwrap_or_else(|e| {
        panic!(
            "{e}\nCMA:\n{}\nnanoprobe:\n{}",
            last_lines(&site.log("cma")),
            last_lines(&site.log(&format!("nanoprobe-{name}")))
        )
    });
}

#[test]
fn the_three_forms_of_cmaaddr_and_a_dead_address_before_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(&["unimatrixzero", "first", "second", "third", "fourth"]).unwrap();
    let center = network.host("unimatrixzero").unwrap().clone();
    let site = Site::create_at(
        folder.path(),
        Programs::built().unwrap(),
        &format!("{}:1984", center.address),
        Some(center.clone()),
    )
    .unwrap();
    let _cma = site.start_cma(&[]).unwrap();

    let plain = site.address.clone();
    let mapped = format!("[::ffff:{}]:1984", center.address);
    for (name, arguments) in [
        ("first", vec!["--cmaaddr", plain.as_str()]),
        ("second", vec!["-c", mapped.as_str()]),
        // Resolved through /etc/hosts; where that has no `localhost`, the last address is the good one anyway.
        ("third", vec!["--cmaaddr", "localhost:1984", "--cmaaddr", plain.as_str()]),
        ("fourth", vec![]),
    ] {
        let mut nanoprobe =
            site.start_nanoprobe(name, Some(network.host(name).unwrap()), &arguments).unwrap();
        if name == "fourth" {
            // No option and a CMA bound to one address: the multicast packet still finds it.
            registered(&site, name, &mut nanoprobe);
            continue;
        }
        registered(&site, name, &mut nanoprobe);
    }
}

#[test]
fn a_nanoprobe_beside_the_cma_takes_another_port_or_another_address() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(&["unimatrixzero"]).unwrap();
    let center = network.host("unimatrixzero").unwrap().clone();
    let second = capture(center.command(std::path::Path::new("ip")).args([
        "addr",
        "add",
        "10.84.0.99/24",
        "dev",
        "eth0",
    ]))
    .unwrap();
    assert!(second.status.success());
    let site =
        Site::create_at(folder.path(), Programs::built().unwrap(), "10.84.0.1:1984", Some(center.clone()))
            .unwrap();
    let _cma = site.start_cma(&[]).unwrap();
    let address = |name: &str| {
        let rows = site.ask(&["sql", &format!("SELECT address FROM hosts WHERE host = '{name}'")]).unwrap();
        rows[0]["address"].as_str().unwrap_or("").to_owned()
    };

    let mut fixed = site
        .start_nanoprobe(
            "fixed",
            Some(&center),
            &["--name", "fixed", "-c", "10.84.0.1:1984", "--bind", "10.84.0.99:1984"],
        )
        .unwrap();
    registered(&site, "fixed", &mut fixed);
    assert!(address("fixed").contains("10.84.0.99:1984"), "{}", address("fixed"));

    // Nothing said: port 1984 is the CMA's, so the system chooses one.
    let mut ephemeral = site
        .start_nanoprobe("ephemeral", Some(&center), &["--name", "ephemeral", "-c", "10.84.0.1:1984"])
        .unwrap();
    registered(&site, "ephemeral", &mut ephemeral);
    assert!(!address("ephemeral").ends_with(":1984"), "{}", address("ephemeral"));

    // A port that somebody chose is in their firewall's rules: another one in its place would be silently blocked.
    let mut taken = site
        .start_nanoprobe("taken", Some(&center), &["--name", "taken", "--bind", "10.84.0.1:1984"])
        .unwrap();
    wait_for("the nanoprobe to refuse", Duration::from_secs(20), || taken.still_running().err()).unwrap();
    assert!(last_lines(&site.log("nanoprobe-taken")).contains("10.84.0.1:1984 is taken"));
}

#[test]
fn a_cma_that_nobody_reaches_is_asked_by_small_packets_until_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path(), Programs::built().unwrap()).unwrap();
    // Takes everything and answers nothing, as a firewall would.
    let deaf = UdpSocket::bind(&site.address).unwrap();
    deaf.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut picard = site.start_nanoprobe("picard", None, &[]).unwrap();
    wait_for("it to ask", Duration::from_secs(180), || {
        let mut packet = [0; 2048];
        let (length, _) = deaf.recv_from(&mut packet).ok()?;
        // What is longer and begins otherwise are dials.
        (length == HELLO_BYTES && Hello::decode(&packet[..length]).is_some()).then_some(())
    })
    .unwrap();
    drop(deaf);
    let _cma = site.start_cma(&[]).unwrap();
    registered(&site, "picard", &mut picard);
}

#[test]
fn a_nanoprobe_without_the_cmas_key_says_what_to_copy() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path(), Programs::built().unwrap()).unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = capture(
        std::process::Command::new(site.programs.path("nanoprobe")).arg("--root").arg(&empty).args([
            "--cmaaddr",
            &port,
            "--bind",
            "127.0.0.1:0",
        ]),
    )
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("crypto.d") && errors.contains("#CMA#*.pub"), "{errors}");
}
