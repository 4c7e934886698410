//! What the kernel says about this process, read from `/proc` when somebody
//! asks for the metrics. What cannot be read is left as it was.

use std::fs;

use super::Metrics;
use super::table::Name;

/// The kernel's unit of processor time for user space; it has been 100 a
/// second on every Linux for decades.
const TICKS: f64 = 100.0;

/// Brings the `process_` series up to date.
pub(crate) fn refresh(metrics: &Metrics) {
    if let Ok(status) = fs::read_to_string("/proc/self/status")
        && let Some(kibibytes) = number_after(&status, "VmRSS:")
    {
        metrics.set(Name::ProcessMemory, &[], kibibytes * 1024.0);
    }
    if let Ok(list) = fs::read_dir("/proc/self/fd") {
        let count = u32::try_from(list.count()).unwrap_or(u32::MAX);
        metrics.set(Name::ProcessFds, &[], f64::from(count));
    }
    if let Ok(limits) = fs::read_to_string("/proc/self/limits")
        && let Some(limit) = number_after(&limits, "Max open files")
    {
        metrics.set(Name::ProcessMaxFds, &[], limit);
    }
    // Fields 14 and 15, counted after the name, which ends with the last parenthesis.
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some((_, fields)) = stat.rsplit_once(')')
    {
        let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        metrics.follow(Name::ProcessCpu, &[], ticks / TICKS);
    }
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proxy::config::Role;

    #[test]
    fn process_figures_are_plausible() {
        let metrics = super::Metrics::new(Role::Border).unwrap();
        super::refresh(&metrics);
        let page = metrics.page().unwrap();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
            let value = super::number_after(&page, name).unwrap_or_default();
            assert!(value >= 1.0, "{name} {value}");
        }
    }
}
