//! The keywords of sshd_config(5), up to OpenSSH 10, with the kind of value that each takes.

/// What the words of a keyword are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Boolean, number or text, told apart by how it looks.
    Scalar,
    /// Text even if it looks like a number: names, paths, commands.
    Text,
    /// One text, blanks included.
    Line,
    /// A command with its arguments, to the end of the line.
    Command,
    /// A time, delivered in seconds.
    Time,
    /// An octal mask, delivered in decimal.
    Octal,
    /// Names separated by commas.
    Algorithms,
    Subsystem,
}

/// What further lines of a keyword mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    FirstCounts,
    /// Exceptions that the manual does not tell of, seen with OpenSSH 9.2.
    LastCounts,
    AddsUp,
}

/// The manual's spelling, the kind and the repetition of a keyword in any case; a retired name gives the
/// keyword that replaced it.
pub fn keyword(name: &str) -> Option<(&'static str, Kind, Repeat)> {
    let name = RETIRED.iter().find(|(old, _)| old.eq_ignore_ascii_case(name)).map_or(name, |(_, new)| new);
    KEYWORDS.iter().find_map(|(names, kind, repeat)| {
        names
            .split_ascii_whitespace()
            .find(|known| known.eq_ignore_ascii_case(name))
            .map(|known| (known, *kind, *repeat))
    })
}

/// Names that sshd still takes for another keyword.
const RETIRED: &[(&str, &str)] = &[
    ("ChallengeResponseAuthentication", "KbdInteractiveAuthentication"),
    ("SkeyAuthentication", "KbdInteractiveAuthentication"),
    ("DSAAuthentication", "PubkeyAuthentication"),
    ("HostDSAKey", "HostKey"),
    ("HostbasedAcceptedKeyTypes", "HostbasedAcceptedAlgorithms"),
    ("PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"),
    ("KeepAlive", "TCPKeepAlive"),
    ("VerifyReverseMapping", "UseDNS"),
    ("ReverseMappingCheck", "UseDNS"),
];

const KEYWORDS: &[(&str, Kind, Repeat)] = &[
    (
        "AddressFamily AllowAgentForwarding AllowStreamLocalForwarding AllowTcpForwarding ClientAliveCountMax Compression \
         DebianBanner DisableForwarding ExposeAuthInfo FingerprintHash GatewayPorts GSSAPIAuthentication \
         GSSAPICleanupCredentials GSSAPIDelegateCredentials GSSAPIEnablek5users GSSAPIKeyExchange \
         GSSAPIStoreCredentialsOnRekey GSSAPIStrictAcceptorCheck HostbasedAuthentication \
         HostbasedUsesNameFromPacketOnly IPQoS IgnoreRhosts IgnoreUserKnownHosts KbdInteractiveAuthentication \
         KerberosAuthentication KerberosGetAFSToken KerberosOrLocalPasswd KerberosTicketCleanup \
         KerberosUniqueCCache KerberosUseKuserok LogLevel MaxAuthTries MaxSessions PasswordAuthentication \
         PerSourceMaxStartups PerSourceNetBlockSize PermitEmptyPasswords PermitRootLogin PermitTTY PermitTunnel \
         PermitUserEnvironment PermitUserRC PrintLastLog PrintMotd PubkeyAuthentication RefuseConnection RekeyLimit \
         RequiredRSASize StreamLocalBindUnlink StrictModes SyslogFacility TCPKeepAlive UseDNS UsePAM \
         X11DisplayOffset X11Forwarding X11MaxDisplays X11UseLocalhost",
        Kind::Scalar,
        Repeat::FirstCounts,
    ),
    // No longer understood by current servers, but rules for old ones read them.
    (
        "AuthorizedKeysFile2 KeyRegenerationInterval PAMAuthenticationViaKbdInt Protocol RhostsAuthentication \
         RhostsRSAAuthentication RSAAuthentication ServerKeyBits ShowPatchLevel UseLogin UsePrivilegeSeparation",
        Kind::Scalar,
        Repeat::FirstCounts,
    ),
    (
        "AuthenticationMethods AuthorizedKeysCommandUser AuthorizedKeysFile \
         AuthorizedPrincipalsCommandUser AuthorizedPrincipalsFile Banner ChannelTimeout \
         ChrootDirectory HostKeyAgent Include LogVerbose ModuliFile PAMServiceName PermitListen PermitOpen \
         PerSourcePenaltyExemptList PidFile PubkeyAuthOptions RDomain RevokedKeys SecurityKeyProvider SetEnv \
         SshdAuthPath SshdSessionPath TrustedUserCAKeys XAuthLocation",
        Kind::Text,
        Repeat::FirstCounts,
    ),
    (
        "AcceptEnv AllowGroups AllowUsers DenyGroups DenyUsers HostCertificate HostKey PerSourcePenalties",
        Kind::Text,
        Repeat::AddsUp,
    ),
    ("AuthorizedKeysCommand AuthorizedPrincipalsCommand ForceCommand", Kind::Command, Repeat::FirstCounts),
    ("Port", Kind::Scalar, Repeat::AddsUp),
    ("ListenAddress", Kind::Line, Repeat::AddsUp),
    ("VersionAddendum", Kind::Line, Repeat::FirstCounts),
    ("ClientAliveInterval LoginGraceTime UnusedConnectionTimeout", Kind::Time, Repeat::FirstCounts),
    ("StreamLocalBindMask", Kind::Octal, Repeat::LastCounts),
    ("MaxStartups", Kind::Scalar, Repeat::LastCounts),
    (
        "CASignatureAlgorithms Ciphers GSSAPIKexAlgorithms HostbasedAcceptedAlgorithms HostKeyAlgorithms KexAlgorithms MACs \
         PubkeyAcceptedAlgorithms",
        Kind::Algorithms,
        Repeat::FirstCounts,
    ),
    ("Subsystem", Kind::Subsystem, Repeat::AddsUp),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_keyword_has_one_place_and_retired_names_lead_to_one() {
        let mut seen = BTreeSet::new();
        for name in KEYWORDS.iter().flat_map(|(names, _, _)| names.split_ascii_whitespace()) {
            assert!(seen.insert(name.to_ascii_lowercase()), "{name} twice");
        }
        for (old, new) in RETIRED {
            assert!(!seen.contains(&old.to_ascii_lowercase()), "{old}");
            assert_eq!(keyword(&old.to_uppercase()).unwrap().0, *new);
        }
        assert_eq!(keyword("x11forwarding").unwrap().0, "X11Forwarding");
        assert_eq!(keyword("nonsense"), None);
    }
}
