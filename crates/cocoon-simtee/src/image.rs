//! A simulated image: what would be booted, as digests of made-up components.
//!
//! Firmware goes into MRTD, the machine's shape into RTMR0, the kernel into RTMR1, command line and initial file system
//! into RTMR2; the running image adds its configuration and then `inited` to RTMR3 (attestation.md, section 6.1).

use cocoon_attest::manifest::{
    CONFIG_EVENT, Digest48, INITED_EVENT, RequiredEvent, SnpImage, TdxImage, runtime_event_data,
};
use cocoon_attest::{ImageManifest, Role};
use sha2::{Digest as _, Sha256, Sha384};

use crate::event_log::{EventKind, MeasuredLog, Rtmr};
use crate::limits::GPUS_MAX;

/// An image that simulated guests boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimImage {
    name: String,
    config: Vec<u8>,
}

impl SimImage {
    /// The image of a role, with its standard configuration.
    #[must_use]
    pub fn for_role(role: Role) -> Self {
        Self::new(&format!("cocoon-{}", role.name()), role.name().as_bytes())
    }

    /// An image by any name: all its components follow from the name, and only RTMR3 depends on the configuration.
    ///
    /// Manifests hold printable ASCII without quotes and backslashes, so anything else in the name becomes `_`.
    #[must_use]
    pub fn new(name: &str, config: &[u8]) -> Self {
        let plain = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        let name: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let name = if name.is_empty() { "_".to_owned() } else { name };
        Self { name, config: config.to_vec() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// MRTD: the firmware.
    #[must_use]
    pub fn mr_td(&self) -> [u8; 48] {
        Sha384::digest(b"simulated TDX virtual firmware").into()
    }

    /// The SNP launch measurement: firmware with the hashes of kernel, initial file system and command line.
    #[must_use]
    pub fn launch_measurement(&self) -> [u8; 48] {
        self.component("snp launch")
    }

    /// The manifest of this image on every simulated machine: what its publisher would sign off.
    ///
    /// It takes any configuration, as manifests of real images do: nodes differ in it, and claims name its digest.
    #[must_use]
    pub fn manifest(&self) -> ImageManifest {
        let boots: Vec<[[u8; 48]; 4]> = (0..=GPUS_MAX).map(|gpus| self.boot(gpus).rtmr()).collect();
        let [_, rtmr1, rtmr2, _] = self.boot(0).rtmr();
        let event = |name: &str| RequiredEvent { name: name.to_owned(), value: None };
        let tdx = TdxImage {
            mr_td: Digest48(self.mr_td()),
            rtmr0: boots.iter().map(|[rtmr0, ..]| Digest48(*rtmr0)).collect(),
            rtmr1: Digest48(rtmr1),
            rtmr2: Digest48(rtmr2),
            rtmr3: vec![event(CONFIG_EVENT), event(INITED_EVENT)],
        };
        let snp = SnpImage { launch: vec![Digest48(self.launch_measurement())] };
        ImageManifest::new(&self.name, Some(tdx), Some(snp))
            .expect("names of images are plain, and nothing is left out")
    }

    /// What a boot of this image on a machine with so many GPUs measures.
    pub(crate) fn boot(&self, gpus: usize) -> MeasuredLog {
        let mut log = MeasuredLog::new();
        log.measure(Rtmr::Firmware, EventKind::EfiHandoffTables, format!("simulated machine, GPUs: {gpus}").as_bytes());
        log.measure(Rtmr::Firmware, EventKind::Separator, &[0; 4]);
        let kernel = self.component("kernel");
        log.measure_digest(Rtmr::Loader, EventKind::EfiBootServicesApplication, kernel, b"\\EFI\\BOOT\\BOOTX64.EFI");
        log.measure(Rtmr::Loader, EventKind::Separator, &[0; 4]);
        log.measure(Rtmr::System, EventKind::Ipl, self.command_line().as_bytes());
        log.measure_digest(Rtmr::System, EventKind::EventTag, self.component("initrd"), b"Linux initrd");
        let config = runtime_event_data(CONFIG_EVENT, Some(&hex::encode(Sha256::digest(&self.config))));
        log.measure(Rtmr::Application, EventKind::EventTag, config.as_bytes());
        log.measure(Rtmr::Application, EventKind::EventTag, runtime_event_data(INITED_EVENT, None).as_bytes());
        log
    }

    fn command_line(&self) -> String {
        format!("root=/dev/mapper/root roothash={}", hex::encode(self.component("root file system")))
    }

    fn component(&self, component: &str) -> [u8; 48] {
        Sha384::new().chain_update(component).chain_update([0]).chain_update(&self.name).finalize().into()
    }
}
