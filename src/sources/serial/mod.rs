//! Framed serial devices: scales, meters, receivers, anything that sends frames by itself or when
//! it is asked. One device alone on one line; Modbus has a room of its own.
//!
//! Bytes go through three parts that know nothing of ports: [`framing`] cuts them, [`parse`] reads
//! a frame, [`intake`] decides what that amounts to. Here is only the port: a line whose read
//! returns nothing or an error is closed at once (an open handle would make a replugged adapter
//! come back under another number) and opened again by its path, ever slower up to
//! [`SERIAL_REOPEN_DELAY_MAX`]. Every wait ends by a byte or by the clock, so nothing spins.

mod away;
pub mod checksum;
pub mod framing;
pub mod intake;
pub mod parse;
pub mod settings;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::away::Away;
use self::framing::Cutter;
use self::intake::{Counts, Intake};
use self::settings::Device;
use super::line::SerialLine;
use super::{Outlet, Running, Source};
use crate::limits::{SERIAL_REOPEN_DELAY_MAX, SERIAL_REOPEN_DELAY_MIN};
use crate::reading::{Group, Points, Stream, TooManyPoints};

/// An open line.
pub trait Port: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Port for T {}

/// Opens a line, again and again. Implementations: [`SerialLine`], and scripted lines in tests.
pub trait Opener: Send {
    /// Opens the line for this process alone.
    ///
    /// # Errors
    /// When it is not there or cannot be had.
    fn open(&mut self) -> io::Result<Box<dyn Port>>;
}

impl Opener for SerialLine {
    fn open(&mut self) -> io::Result<Box<dyn Port>> {
        Ok(Box::new(Self::open(self)?))
    }
}

/// One device on its line: the source.
pub struct SerialDevice {
    device: Device,
    opener: Box<dyn Opener>,
    cutter: Cutter,
    intake: Intake,
    buffer: Box<[u8]>,
    away: Away,
}

/// Bytes a read takes at most: what the kernel keeps for a tty (n_tty's buffer, 4096).
const READ_BYTES: usize = 4096;
/// After an open, a device is asked only when the line had time to be silent: what comes then is
/// known to be an answer from its first byte.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// No device answers faster over a serial line; an interval of nothing would spin.
const ASK_EVERY_MIN: Duration = Duration::from_millis(10);

impl SerialDevice {
    /// Prepares a device; opens nothing.
    ///
    /// # Errors
    /// When the process knows too many points already.
    pub fn new(device: Device, names: &Points) -> Result<Self, TooManyPoints> {
        let opener = Box::new(device.line.clone());
        Self::on(device, names, opener)
    }

    /// Prepares a device on a line that `opener` opens.
    ///
    /// # Errors
    /// When the process knows too many points already.
    pub fn on(
        device: Device,
        names: &Points,
        opener: Box<dyn Opener>,
    ) -> Result<Self, TooManyPoints> {
        let now = Instant::now();
        Ok(Self {
            cutter: Cutter::new(device.framing.clone(), device.line.line, now),
            intake: Intake::new(&device, names, now)?,
            buffer: vec![0; READ_BYTES].into(),
            away: Away::default(),
            device,
            opener,
        })
    }

    /// Returns what happened on the line since the start.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(self.intake.counts())
    }

    /// Opens, reads until the line is gone, and again; never returns.
    async fn keep_reading(&mut self, outlet: &Outlet) {
        // Without jitter: nobody else opens this port, so there is no crowd to spread.
        let mut delay = SERIAL_REOPEN_DELAY_MIN;
        loop {
            self.intake.counts().opens.fetch_add(1, Ordering::Relaxed);
            match self.opener.open() {
                Ok(mut port) => {
                    let bytes = self.intake.counts().bytes.load(Ordering::Relaxed);
                    self.read(&mut *port, outlet).await;
                    drop(port);
                    self.away.closed(&self.intake, &self.device.line, &outlet.events);
                    // A port that opens and says nothing before it ends is no better than one that
                    // does not open.
                    if self.intake.counts().bytes.load(Ordering::Relaxed) > bytes {
                        delay = SERIAL_REOPEN_DELAY_MIN;
                    }
                }
                Err(error) => {
                    let (intake, line) = (&self.intake, &self.device.line);
                    self.away.not_opened(&error, intake, line, &outlet.events);
                }
            }
            self.intake.gone();
            self.hand_on(outlet).await;
            sleep(delay).await;
            delay = (delay * 2).min(SERIAL_REOPEN_DELAY_MAX);
        }
    }

    /// Reads an open line until it is gone.
    async fn read(&mut self, port: &mut dyn Port, outlet: &Outlet) {
        let opened = Instant::now();
        self.cutter.restart(opened);
        self.intake.opened(opened);
        self.away.opened(opened);
        let mut ask_at = self.device.ask.as_ref().map(|_| opened + ASK_AFTER);
        let mut answered = true;
        loop {
            let wake = [self.cutter.deadline(), self.intake.wake(), ask_at, self.away.wake()];
            let wake = wake.into_iter().flatten().min();
            let read = tokio::select! {
                read = port.read(&mut self.buffer) => Some(read),
                () = until(wake) => None,
            };
            let now = Instant::now();
            let before = self.intake.counts().outcomes();
            let Self { cutter, intake, buffer, .. } = self;
            match read {
                // A tty that has nothing to say waits; one that says "end" is unplugged.
                Some(Ok(0)) => return,
                Some(Ok(n)) => {
                    intake.counts().reads.fetch_add(1, Ordering::Relaxed);
                    intake.bytes(n, now);
                    cutter.push(&buffer[..n], now, &mut |cut| intake.cut(&cut, now));
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(Err(_)) => return,
                None => cutter.pause(now, &mut |cut| intake.cut(&cut, now)),
            }
            intake.tick(now);
            let after = self.intake.counts().outcomes();
            // An answer that cannot be read is an answer; it has been reported as malformed.
            answered |= after != before;
            self.away.settled(after.0 > before.0, now, self.intake.subject(), &outlet.events);
            if let Some((question, every)) = &self.device.ask
                && ask_at.is_some_and(|at| now >= at)
            {
                let every = (*every).max(ASK_EVERY_MIN);
                self.intake.ask(answered, now);
                answered = false;
                let at = ask_at.map_or(now, |at| at + every);
                ask_at = Some(if at > now { at } else { now + every });
                if !matches!(timeout(every, port.write_all(question)).await, Ok(Ok(()))) {
                    return;
                }
            }
            self.hand_on(outlet).await;
        }
    }

    /// Hands on what is ready.
    async fn hand_on(&mut self, outlet: &Outlet) {
        for (points, samples) in self.intake.take() {
            let at = outlet.clock.now();
            outlet.send(Group { stream: Stream::Data, at, points, samples }).await;
        }
    }
}

/// Waits until an instant, or for ever.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Source for SerialDevice {
    fn name(&self) -> String {
        format!("port {}", self.device.line.name)
    }

    fn run<'a>(&'a mut self, outlet: Outlet, stop: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            self.intake.begin(outlet.events.clone(), Instant::now());
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.keep_reading(&outlet) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests;
