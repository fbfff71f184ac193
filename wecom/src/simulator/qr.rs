//! Login codes and their pictures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};

/// Pixels a side of one module, and modules of white around the code.
const SCALE: usize = 6;
const QUIET: usize = 4;

/// A PNG of the code, in base64; `None` when `content` is longer than a code can hold.
pub(super) fn png_base64(content: &str) -> Option<String> {
    png(content).map(|png| STANDARD.encode(png))
}

fn png(content: &str) -> Option<Vec<u8>> {
    let code = QrCode::with_error_correction_level(content.as_bytes(), EcLevel::M).ok()?;
    let modules = code.width();
    let colors = code.to_colors();
    let side = (modules + 2 * QUIET) * SCALE;
    let row_bytes = side.div_ceil(8);
    // One bit a pixel, 1 is white.
    let mut pixels = vec![0xff_u8; row_bytes * side];
    for (y, row) in pixels.chunks_exact_mut(row_bytes).enumerate() {
        let Some(module_y) = (y / SCALE).checked_sub(QUIET).filter(|module_y| *module_y < modules) else {
            continue;
        };
        for module_x in 0..modules {
            if colors[module_y * modules + module_x] == Color::Dark {
                let from = (module_x + QUIET) * SCALE;
                for x in from..from + SCALE {
                    row[x / 8] &= !(0x80 >> (x % 8));
                }
            }
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().ok()?.write_image_data(&pixels).ok()?;
    Some(out)
}
