//! What the operating system says of this process; `None` where it does not.

/// Largest resident memory so far, in bytes.
pub(super) fn peak_resident() -> Option<u64> {
    status("VmHWM:")
}

/// Resident memory now, in bytes.
pub(super) fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// A line of `/proc/self/status`, which Linux gives in KiB.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}

/// Processor time of the calling thread so far, in seconds (Linux).
pub(super) fn thread_seconds() -> Option<f64> {
    // The figure of a running thread is brought up to date when it sleeps, else at the next tick, milliseconds later. A much
    // shorter sleep may end before it began.
    std::thread::sleep(std::time::Duration::from_micros(200));
    run_seconds(std::path::Path::new("/proc/thread-self/schedstat"))
}

/// Processor time so far of the threads of this process that have a name, in seconds (Linux).
pub(super) fn named_seconds(name: &str) -> Option<f64> {
    let mut spent = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?.path();
        // A thread that ended in between has no files.
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            spent += run_seconds(&task.join("schedstat")).unwrap_or(0.0);
        }
    }
    Some(spent)
}

fn run_seconds(schedstat: &std::path::Path) -> Option<f64> {
    let text = std::fs::read_to_string(schedstat).ok()?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// Processor time of all threads so far, in seconds, to 10 ms (Linux).
pub(super) fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; user and system time are the 14th and 15th field of the line.
    let after = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / 100.0)
}
