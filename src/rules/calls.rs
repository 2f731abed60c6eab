//! What a rule may call: the contract's five imports and nothing else. Each call costs fuel for what
//! the host does, and ends the rule's call when it wants what it may not have.

use std::sync::Arc;

use wasmtime::component::{Linker, LinkerInstance, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::failure::Stopped;
use super::guest::{Entry, Guest, Stop};
use super::wit::{Level, Param, Reading, Stream};
use crate::limits;
use crate::reading;
use crate::state::Declared;

type Caller<'a> = StoreContextMut<'a, Guest>;

/// The linker of all rules.
pub(super) fn linker(machine: &wasmtime::Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(machine);
    linker.instance("fieldgate:rule/types@1.0.0")?;
    params(&mut linker.instance("fieldgate:rule/params@1.0.0")?)?;
    output(&mut linker.instance("fieldgate:rule/output@1.0.0")?)?;
    state(&mut linker.instance("fieldgate:rule/state@1.0.0")?)?;
    timers(&mut linker.instance("fieldgate:rule/timers@1.0.0")?)?;
    log(&mut linker.instance("fieldgate:rule/log@1.0.0")?)?;
    Ok(linker)
}

fn params(params: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    params.func_wrap("get", |mut caller: Caller<'_>, (name,): (WasmStr,)| {
        charge(&mut caller, 0)?;
        let name = name.to_str(&caller)?;
        let found: Option<Param> = caller.data().param(&name).cloned();
        Ok((found,))
    })
}

fn output(output: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    type Named = (Stream, WasmStr, WasmStr, Option<WasmStr>);
    output.func_wrap("declare", |mut caller: Caller<'_>, (to, device, point, unit): Named| {
        charge(&mut caller, 0)?;
        let word = |word: &WasmStr| word.to_str(&caller).map(|word| Arc::from(&*word));
        let stream = match to {
            Stream::Data => reading::Stream::Data,
            Stream::Event => reading::Stream::Event,
        };
        let unit = unit.as_ref().map(word).transpose()?.unwrap_or_default();
        let declared = Declared { stream, device: word(&device)?, point: word(&point)?, unit };
        Ok((caller.data_mut().declare(declared),))
    })?;
    output.func_wrap("emit", |mut caller: Caller<'_>, (readings,): (WasmList<Reading>,)| {
        let count = readings.len();
        charge(&mut caller, 0)?;
        spend(&mut caller, limits::RULE_FUEL_EMITTED.saturating_mul(count as u64))?;
        // Out of the store while the list is read, which needs the store.
        let mut output = caller.data_mut().take_output(count).map_err(Stopped)?;
        let read = readings.iter(&mut caller)?.try_for_each(|reading| ended(output.emit(reading?)));
        caller.data_mut().put_output(output);
        read
    })
}

fn state(state: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    state.func_wrap("get", |mut caller: Caller<'_>, (key,): (WasmStr,)| {
        let found = caller.data().value(&key.to_str(&caller)?).cloned();
        charge(&mut caller, found.as_ref().map_or(0, |value| value.len()))?;
        Ok((found,))
    })?;
    state.func_wrap("set", |mut caller: Caller<'_>, (key, value): (WasmStr, WasmList<u8>)| {
        charge(&mut caller, value.len())?;
        let key = key.to_str(&caller)?.into_owned();
        let value = value.as_le_slice(&caller).to_vec();
        ended(caller.data_mut().set_value(&key, Some(&value)))
    })?;
    state.func_wrap("delete", |mut caller: Caller<'_>, (key,): (WasmStr,)| {
        charge(&mut caller, 0)?;
        let key = key.to_str(&caller)?.into_owned();
        ended(caller.data_mut().set_value(&key, None))
    })?;
    type Asked = (WasmStr, Option<WasmStr>, u32);
    state.func_wrap("scan", |mut caller: Caller<'_>, (prefix, after, count): Asked| {
        let found = {
            let after = after.as_ref().map(|after| after.to_str(&caller)).transpose()?;
            caller.data().scan(&prefix.to_str(&caller)?, after.as_deref(), count)
        };
        charge(&mut caller, found.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        Ok::<(Vec<Entry>,), _>((found,))
    })
}

fn timers(timers: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    timers.func_wrap("set", |mut caller: Caller<'_>, (name, at): (WasmStr, i64)| {
        charge(&mut caller, 0)?;
        let name = name.to_str(&caller)?.into_owned();
        ended(caller.data_mut().set_timer(&name, Some(at)))
    })?;
    timers.func_wrap("cancel", |mut caller: Caller<'_>, (name,): (WasmStr,)| {
        charge(&mut caller, 0)?;
        let name = name.to_str(&caller)?.into_owned();
        ended(caller.data_mut().set_timer(&name, None))
    })
}

fn log(log: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    log.func_wrap("write", |mut caller: Caller<'_>, (level, line): (Level, WasmStr)| {
        charge(&mut caller, limits::RULE_LOG_LINE_BYTES_MAX)?;
        let line = line.to_str(&caller)?.into_owned();
        caller.data_mut().write(level, &line);
        Ok(())
    })
}

/// Takes the fuel of a host call that moves so many bytes.
fn charge(caller: &mut Caller<'_>, bytes: usize) -> Result<()> {
    spend(caller, limits::RULE_FUEL_HOSTCALL + (bytes / limits::RULE_FUEL_BYTES) as u64)
}

fn spend(caller: &mut Caller<'_>, fuel: u64) -> Result<()> {
    match caller.get_fuel()?.checked_sub(fuel) {
        Some(left) => caller.set_fuel(left),
        None => {
            caller.set_fuel(0)?;
            Err(wasmtime::Trap::OutOfFuel.into())
        }
    }
}

fn ended(stop: Stop) -> Result<()> {
    stop.map_err(|failure| Stopped(failure).into())
}
