//! GET /api/v1/accounts/{id}/qrcode.png

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use png::{BitDepth, ColorType, Encoder};
use qrcode::{Color, QrCode};
use weft_platform::http::{Permission, Problem};

use super::login::open_code;
use crate::call::{AccountPath, CommandCall};
use crate::refusal::defect;
use crate::state::CommandState;

/// Pixels per module, and modules of white around the code (the standard asks for four).
const SCALE: usize = 8;
const QUIET: usize = 4;

/// The login code that is valid now, as a picture.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/qrcode.png",
    tag = "accounts",
    operation_id = "get_account_qrcode",
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The code", body = String, content_type = "image/png"),
        (status = 404, description = "account.not_found, account.no_qrcode"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.qrcode", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
) -> Result<impl IntoResponse, Problem> {
    call.require(Permission::AccountOperate)?;
    let account = app.own_account(&call.context, id).await?;
    let Some(code) = account.state.valid_qr_code(app.clock.now()) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "account.no_qrcode",
            "no login code is valid now",
        ));
    };
    let content = open_code(&app, &code.content).await?;
    let picture = render(&content).map_err(|error| defect(&error))?;
    let headers = [
        (header::CONTENT_TYPE, "image/png".to_owned()),
        // Whoever has the picture can log in.
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ETAG, format!("\"{}\"", account.version)),
    ];
    Ok((headers, picture))
}

/// Black on white, one bit per pixel.
fn render(content: &str) -> Result<Vec<u8>, String> {
    let code = QrCode::new(content).map_err(|error| error.to_string())?;
    let modules = code.to_colors();
    let width = code.width();
    let side = (width + 2 * QUIET) * SCALE;
    let row_bytes = side.div_ceil(8);
    let mut pixels = vec![0xff_u8; row_bytes * side];
    for (index, _) in modules.iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        let (left, top) = ((index % width + QUIET) * SCALE, (index / width + QUIET) * SCALE);
        for y in top..top + SCALE {
            for x in left..left + SCALE {
                pixels[y * row_bytes + x / 8] &= !(0x80 >> (x % 8));
            }
        }
    }
    let mut picture = Vec::new();
    let side = u32::try_from(side).map_err(|error| error.to_string())?;
    let mut encoder = Encoder::new(&mut picture, side, side);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::One);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(&pixels).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_picture_shows_every_module_of_the_code() {
        let content = "https://work.weixin.qq.com/ca/example";
        let picture = render(content).unwrap();
        let mut reader = png::Decoder::new(Cursor::new(picture)).read_info().unwrap();
        let side = reader.info().width as usize;
        let row_bytes = side.div_ceil(8);
        let mut pixels = vec![0; row_bytes * side];
        reader.next_frame(&mut pixels).unwrap();
        let code = QrCode::new(content).unwrap();
        assert_eq!(side, (code.width() + 2 * QUIET) * SCALE);
        for (index, color) in code.to_colors().into_iter().enumerate() {
            let x = (index % code.width() + QUIET) * SCALE + SCALE / 2;
            let y = (index / code.width() + QUIET) * SCALE + SCALE / 2;
            let is_white = pixels[y * row_bytes + x / 8] & (0x80 >> (x % 8)) != 0;
            assert_eq!(is_white, color == Color::Light, "module {index}");
        }
    }

    #[test]
    fn a_content_too_long_for_a_code_is_an_error() {
        assert!(render(&"x".repeat(5_000)).is_err());
    }
}
