//! `zimage doctor`: whether a model can be used, and everything that is wrong with it.

use std::process::ExitCode;

use zimage::{Device, Pipeline};
use zimage_weights::Audit;
use zimage_weights::inspect::{Diagnosis, Dialect, PartDiagnosis, doctor};

use super::inspect;
use crate::args::InspectArgs;
use crate::failure::{Code, Failure, printable, printable_name};
use crate::output::print_line;

pub fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let mut diagnosis = doctor(&args.path).map_err(inspect::refused)?;
    if diagnosis.report.dialect == Dialect::Lora {
        try_on_demo(args, &mut diagnosis)?;
    } else if diagnosis.usable {
        // Tokenizer and scheduler are checked by the library that uses them.
        let device = Device::cpu(1).map_err(zimage::Error::from)?;
        diagnosis.problem = Pipeline::load(&args.path, device).err().map(|error| error.to_string());
        diagnosis.usable = diagnosis.problem.is_none();
    }
    match args.json {
        true => print_line(&serde_json::to_string(&diagnosis).expect("a diagnosis is plain data: this is a bug"))?,
        false => print(&diagnosis)?,
    }
    Ok(if diagnosis.usable { ExitCode::SUCCESS } else { ExitCode::from(Code::Failed as u8) })
}

/// A LoRA that does not fit the published model may be one of the embedded one.
fn try_on_demo(args: &InspectArgs, diagnosis: &mut Diagnosis) -> Result<(), Failure> {
    let device = Device::cpu(1).map_err(zimage::Error::from)?;
    if !diagnosis.usable && Pipeline::demo(device)?.open_lora(&args.path).is_ok() {
        diagnosis.usable = true;
        diagnosis.problem = Some("it fits the embedded demo model, and not Z-Image-Turbo".to_owned());
    }
    Ok(())
}

fn print(diagnosis: &Diagnosis) -> Result<(), Failure> {
    inspect::print(&diagnosis.report)?;
    print_line("")?;
    diagnosis.parts.iter().try_for_each(print_part)?;
    if let Some(problem) = &diagnosis.problem {
        print_line(&format!("problem: {}", printable(problem)))?;
    }
    print_line(if diagnosis.usable { "usable: yes" } else { "usable: no" })
}

fn print_part(part: &PartDiagnosis) -> Result<(), Failure> {
    if let Some(audit) = &part.audit {
        print_line(&format!("{}: {} of {} tensors matched", part.component, audit.matched, audit.expected))?;
        print_audit(audit)?;
    }
    match &part.problem {
        Some(problem) => print_line(&format!("{}: {}", part.component, printable(problem))),
        None => Ok(()),
    }
}

fn print_audit(audit: &Audit) -> Result<(), Failure> {
    for name in &audit.missing {
        print_line(&format!("  missing    {name}"))?;
    }
    for unknown in &audit.unknown {
        let nearest = unknown.nearest.as_ref().map(|name| format!(" (nearest is {name})")).unwrap_or_default();
        print_line(&format!("  unknown    {}{nearest}", printable_name(&unknown.name)))?;
    }
    for misshapen in &audit.misshapen {
        let (expected, found) = (&misshapen.expected, &misshapen.found);
        print_line(&format!(
            "  misshapen  {}: expected {expected:?}, found {found:?}",
            printable_name(&misshapen.name)
        ))?;
    }
    Ok(())
}
