//! Which field of ours is which of tshark's, and how their texts are made alike.

use serde_json::Value;
use std::net::IpAddr;

/// A field that both have.
pub struct Field {
    /// As reports and explanations call it.
    pub name: &'static str,
    /// Path in what we say: names separated by dots, `*` for each element.
    ours: &'static str,
    /// Fields of tshark, one after the other.
    theirs: &'static [&'static str],
    form: Form,
}

enum Form {
    Text,
    /// Several values are the lines of one text.
    Lines,
    /// MAC and IP addresses; other text stays.
    Address,
    /// Hexadecimal; theirs with colons.
    Bytes,
    /// Decimal or hexadecimal.
    Number,
    /// They tell tenths of a watt, we milliwatts.
    Tenths,
    /// They tell the number on the wire, which is ours and one; 0 is none.
    PlusOne,
    Boolean,
    /// They tell a boolean, we one of two words: the one for true.
    Word(&'static str),
    /// Roles of LLDP: those that are supported, or enabled.
    Roles {
        enabled: bool,
    },
    /// Roles of CDP.
    RoleList,
    /// They tell 1 when it is right, we an error when it is wrong.
    Checksum,
    /// In any order.
    Set,
}

const fn field(name: &'static str, ours: &'static str, theirs: &'static [&'static str], form: Form) -> Field {
    Field { name, ours, theirs, form }
}

pub static FIELDS: &[Field] = &[
    field(
        "ChassisId",
        "device.ChassisId",
        &[
            "lldp_lldp_chassis_id",
            "lldp_lldp_chassis_id_mac",
            "lldp_lldp_chassis_id_ip4",
            "lldp_lldp_chassis_id_ip6",
            "cdp_cdp_deviceid",
        ],
        Form::Address,
    ),
    field(
        "PortId",
        "port.PortId",
        &[
            "lldp_lldp_port_id",
            "lldp_lldp_port_id_mac",
            "lldp_lldp_port_id_ip4",
            "lldp_lldp_port_id_ip6",
            "cdp_cdp_portid",
        ],
        Form::Address,
    ),
    field("ttl_seconds", "ttl_seconds", &["lldp_lldp_time_to_live", "cdp_cdp_ttl"], Form::Number),
    field("PortDescription", "port.PortDescription", &["lldp_lldp_port_desc"], Form::Text),
    field(
        "SystemName",
        "device.SystemName",
        &["lldp_lldp_tlv_system_name", "cdp_cdp_system_name"],
        Form::Text,
    ),
    field("SystemDescription", "device.SystemDescription", &["lldp_lldp_tlv_system_desc"], Form::Text),
    field(
        "SystemCapabilities supported",
        "device.SystemCapabilities",
        &["lldp_lldp_tlv_system_cap_"],
        Form::Roles { enabled: false },
    ),
    field(
        "SystemCapabilities enabled",
        "device.SystemCapabilities",
        &["lldp_lldp_tlv_enable_system_cap_"],
        Form::Roles { enabled: true },
    ),
    field(
        "ManagementAddresses",
        "device.ManagementAddresses.*.address",
        &["lldp_lldp_mgn_addr_ip4", "lldp_lldp_mgn_addr_ip6", "lldp_lldp_mgn_addr_hex"],
        Form::Address,
    ),
    field(
        "ManagementAddresses.interface",
        "device.ManagementAddresses.*.interface",
        &["lldp_lldp_mgn_interface_number"],
        Form::Number,
    ),
    field(
        "ManagementAddresses.object",
        "device.ManagementAddresses.*.object",
        &["lldp_lldp_mgn_obj_id"],
        Form::Text,
    ),
    field("pvid", "port.pvid", &["lldp_lldp_ieee_802_1_port_vlan_id"], Form::Number),
    field(
        "protocol_vlans.ppvid",
        "port.protocol_vlans.*.ppvid",
        &["lldp_lldp_ieee_802_1_port_proto_vlan_id"],
        Form::Number,
    ),
    field(
        "protocol_vlans.capable",
        "port.protocol_vlans.*.capable",
        &["lldp_lldp_ieee_802_1_port_and_vlan_id_flag_supported"],
        Form::Boolean,
    ),
    field(
        "protocol_vlans.enabled",
        "port.protocol_vlans.*.enabled",
        &["lldp_lldp_ieee_802_1_port_and_vlan_id_flag_enabled"],
        Form::Boolean,
    ),
    field("vlans.vid", "port.vlans.*.vid", &["lldp_lldp_ieee_802_1_vlan_id"], Form::Number),
    field("vlans.name", "port.vlans.*.name", &["lldp_lldp_ieee_802_1_vlan_name"], Form::Text),
    field(
        "protocol_identities",
        "port.protocol_identities.*",
        &["lldp_lldp_ieee_802_1_proto_id"],
        Form::Bytes,
    ),
    field(
        "autoneg_supported",
        "port.autoneg_supported",
        &["lldp_lldp_ieee_802_3_mac_phy_auto_neg_status_supported"],
        Form::Boolean,
    ),
    field(
        "autoneg_enabled",
        "port.autoneg_enabled",
        &["lldp_lldp_ieee_802_3_mac_phy_auto_neg_status_enabled"],
        Form::Boolean,
    ),
    field("mau_type", "port.mau_type", &["lldp_lldp_ieee_802_3_pmd_mau_type"], Form::Number),
    field("mtu", "port.mtu", &["lldp_lldp_ieee_802_3_max_frame_size", "cdp_cdp_mtu"], Form::Number),
    field(
        "power.port_class",
        "port.power.port_class",
        &["lldp_lldp_ieee_802_3_mdi_power_support_port_class"],
        Form::Word("PSE"),
    ),
    field(
        "power.supported",
        "port.power.supported",
        &["lldp_lldp_ieee_802_3_mdi_power_support_supported"],
        Form::Boolean,
    ),
    field(
        "power.enabled",
        "port.power.enabled",
        &["lldp_lldp_ieee_802_3_mdi_power_support_enabled"],
        Form::Boolean,
    ),
    field(
        "power.pair_control",
        "port.power.pair_control",
        &["lldp_lldp_ieee_802_3_mdi_power_support_pse_pairs"],
        Form::Boolean,
    ),
    field("power.class", "port.power.class", &["lldp_lldp_ieee_802_3_mdi_power_class"], Form::PlusOne),
    field(
        "power.requested_milliwatts",
        "port.power.requested_milliwatts",
        &["lldp_lldp_ieee_802_3_mdi_pde_requested"],
        Form::Tenths,
    ),
    field(
        "power.allocated_milliwatts",
        "port.power.allocated_milliwatts",
        &["lldp_lldp_ieee_802_3_mdi_pse_allocated"],
        Form::Tenths,
    ),
    field(
        "aggregation_capable",
        "port.aggregation_capable",
        &["lldp_lldp_ieee_802_3_aggregation_status_cap", "lldp_lldp_ieee_802_1_aggregation_status_cap"],
        Form::Boolean,
    ),
    field(
        "aggregation_enabled",
        "port.aggregation_enabled",
        &[
            "lldp_lldp_ieee_802_3_aggregation_status_enabled",
            "lldp_lldp_ieee_802_1_aggregation_status_enabled",
        ],
        Form::Boolean,
    ),
    field(
        "aggregation_port",
        "port.aggregation_port",
        &["lldp_lldp_ieee_802_3_aggregated_port_id", "lldp_lldp_ieee_802_1_aggregated_port_id"],
        Form::Number,
    ),
    field(
        "energy_efficient_ethernet",
        "port.energy_efficient_ethernet.transmit_wake_microseconds",
        &["lldp_lldp_ieee_802_3_eee_transmit"],
        Form::Number,
    ),
    field("policies.vlan", "port.policies.*.vlan", &["lldp_lldp_media_vlan_id"], Form::Number),
    field("policies.priority", "port.policies.*.priority", &["lldp_lldp_media_l2_prio"], Form::Number),
    field("policies.dscp", "port.policies.*.dscp", &["lldp_lldp_media_dscp"], Form::Number),
    field("policies.tagged", "port.policies.*.tagged", &["lldp_lldp_media_tag_flag"], Form::Boolean),
    field(
        "location.civic.country",
        "port.location.civic.country",
        &["lldp_lldp_media_civic_country"],
        Form::Text,
    ),
    field("location.elin", "port.location.elin", &["lldp_lldp_media_ecs"], Form::Text),
    field(
        "med_power.milliwatts",
        "port.med_power.milliwatts",
        &["lldp_lldp_media_power_value"],
        Form::Tenths,
    ),
    field("hardware_revision", "device.hardware_revision", &["lldp_lldp_media_hardware"], Form::Text),
    field("firmware_revision", "device.firmware_revision", &["lldp_lldp_media_firmware"], Form::Text),
    field("software_revision", "device.software_revision", &["lldp_lldp_media_software"], Form::Text),
    field("serial_number", "device.serial_number", &["lldp_lldp_media_sn"], Form::Text),
    field("manufacturer", "device.manufacturer", &["lldp_lldp_media_manufacturer"], Form::Text),
    field("model", "device.model", &["lldp_lldp_media_model"], Form::Text),
    field("asset_id", "device.asset_id", &["lldp_lldp_media_asset"], Form::Text),
    field("CdpVersion", "device.CdpVersion", &["cdp_cdp_version"], Form::Number),
    field("checksum", "errors", &["cdp_cdp_checksum_status"], Form::Checksum),
    field("SystemCapabilities", "device.SystemCapabilities", &["cdp_cdp_capabilities_"], Form::RoleList),
    field("SystemVersion", "device.SystemVersion", &["cdp_cdp_software_version"], Form::Lines),
    field("SystemPlatform", "device.SystemPlatform", &["cdp_cdp_platform"], Form::Text),
    field(
        "VLANManagementDomain",
        "device.VLANManagementDomain",
        &["cdp_cdp_vtp_management_domain"],
        Form::Text,
    ),
    field("VlanId", "port.VlanId", &["cdp_cdp_native_vlan"], Form::Number),
    field("duplex", "port.duplex", &["cdp_cdp_duplex"], Form::Word("full")),
    field("VoiceVlanId", "port.VoiceVlanId", &["cdp_cdp_voice_vlan"], Form::Number),
    field("PortPower", "port.PortPower", &["cdp_cdp_power_consumption"], Form::Number),
    field("CiscoTrustBitmap", "port.CiscoTrustBitmap", &["cdp_cdp_trust_bitmap"], Form::Number),
    field(
        "CiscoUnTrustedPortCOS",
        "port.CiscoUnTrustedPortCOS",
        &["cdp_cdp_untrusted_port_cos"],
        Form::Number,
    ),
    field("Location", "device.Location", &["cdp_cdp_location"], Form::Text),
    field("IpPrefixes", "device.IpPrefixes.*", &["cdp_cdp_ip_prefix"], Form::Text),
    field("DefaultGateway", "device.DefaultGateway", &["cdp_cdp_odr_default_gateway"], Form::Text),
    field(
        "ProtocolHello.switch",
        "device.ProtocolHello.switch",
        &["cdp_cdp_cluster_switch_mac"],
        Form::Address,
    ),
    field(
        "ProtocolHello.cluster_master",
        "device.ProtocolHello.cluster_master",
        &["cdp_cdp_cluster_master_ip"],
        Form::Address,
    ),
    field(
        "ProtocolHello.management_vlan",
        "device.ProtocolHello.management_vlan",
        &["cdp_cdp_cluster_management_vlan"],
        Form::Number,
    ),
    field("addresses of CDP", "", &["cdp_cdp_nrgyz_ip_address", "cdp_cdp_nrgyz_ipv6_address"], Form::Set),
    field("PowerRequested", "port.PowerRequested.*", &["cdp_cdp_power_requested"], Form::Number),
    field("PowerAvailable", "port.PowerAvailable.*", &["cdp_cdp_power_available"], Form::Number),
];

/// Ours and theirs, from the lowest bit on.
const LLDP_ROLES: [(&str, &str); 8] = [
    ("other", "other"),
    ("repeater", "repeater"),
    ("bridge", "bridge"),
    ("WLANAP", "wlan_access_pt"),
    ("router", "router"),
    ("phone", "telephone"),
    ("DOCSIS", "docsis_cable_device"),
    ("station", "station_only"),
];
const CDP_ROLES: [(&str, &str); 11] = [
    ("router", "router"),
    ("tb_bridge", "trans_bridge"),
    ("srcbridge", "src_bridge"),
    ("bridge", "switch"),
    ("host", "host"),
    ("igmp-filter", "igmp_capable"),
    ("repeater", "repeater"),
    ("phone", "voip_phone"),
    ("remotely-managed", "remote"),
    ("cvta", "cvta"),
    ("two-port-relay", "mac_relay"),
];

impl Field {
    /// Our values as texts that can be compared.
    pub fn of_ours(&self, told: &Value) -> Vec<String> {
        if let Form::Set = self.form {
            let names = ["SystemAddress", "ManagementAddress"];
            let lists = names.iter().filter_map(|name| told["device"][*name].as_array()).flatten();
            return sorted(lists.filter_map(Value::as_str).map(str::to_owned).collect());
        }
        let mut found = vec![told];
        for part in self.ours.split('.') {
            found = match part {
                "*" => found.into_iter().filter_map(Value::as_array).flatten().collect(),
                name => found.into_iter().filter_map(|value| value.get(name)).collect(),
            };
        }
        match self.form {
            Form::Roles { enabled } => {
                let roles = found.into_iter().filter_map(Value::as_object).flatten();
                let wanted = roles.filter(|(_, is_enabled)| !enabled || **is_enabled == true);
                sorted(wanted.map(|(role, _)| role.clone()).collect())
            }
            Form::RoleList => {
                let roles = found.into_iter().filter_map(Value::as_array).flatten();
                sorted(roles.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Form::Checksum => {
                let errors =
                    found.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
                let is_wrong = errors.into_iter().any(|error| error.contains("checksum"));
                // Only CDP has one.
                let is_cdp = told["device"].get("CdpVersion").is_some();
                if is_cdp { vec![if is_wrong { "wrong" } else { "right" }.to_owned()] } else { Vec::new() }
            }
            _ => found.into_iter().map(text).collect(),
        }
    }

    /// Theirs in the same form.
    pub fn of_theirs(&self, layer: &Value) -> Vec<String> {
        let roles = |names: &[(&str, &str)]| {
            let is_set =
                |their: &str| values(layer, &format!("{}{their}", self.theirs[0])).contains(&"true".into());
            sorted(
                names.iter().filter(|(_, their)| is_set(their)).map(|(our, _)| (*our).to_owned()).collect(),
            )
        };
        match self.form {
            Form::Roles { .. } => return roles(&LLDP_ROLES),
            Form::RoleList => return roles(&CDP_ROLES),
            _ => {}
        }
        let found = self.theirs.iter().flat_map(|name| values(layer, name));
        match self.form {
            Form::Number => {
                found.map(|value| number(&value).map_or(value, |number| number.to_string())).collect()
            }
            Form::Tenths => {
                found.map(|value| number(&value).map_or(value, |tenths| (tenths * 100).to_string())).collect()
            }
            Form::PlusOne => found
                .filter_map(|value| number(&value)?.checked_sub(1).map(|number| number.to_string()))
                .collect(),
            Form::Bytes => found.map(|value| value.replace(':', "")).collect(),
            Form::Address => found.map(|value| address(&value)).collect(),
            Form::Word(word) => {
                found.map(|value| if value == "true" { word.to_owned() } else { value }).collect()
            }
            Form::Checksum => {
                found.map(|value| if value == "1" { "right" } else { "wrong" }.to_owned()).collect()
            }
            Form::Lines => {
                let lines: Vec<String> = found.collect();
                if lines.is_empty() { lines } else { vec![lines.join("\n")] }
            }
            Form::Set => sorted(found.collect()),
            _ => found.collect(),
        }
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

fn values(layer: &Value, name: &str) -> Vec<String> {
    match layer.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(value) => vec![text(value)],
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn address(text: &str) -> String {
    let mac = discovery::link::MacAddress::parse(text).map(|mac| mac.to_string());
    let ip = || text.parse::<IpAddr>().map(|ip| ip.to_string());
    mac.or_else(|| ip().ok()).unwrap_or_else(|| text.to_owned())
}
