/// The frame of a page that needs nothing but itself: style and script are within, nothing is fetched, and without the
/// script all of it is still there but the values under the pointer.
///
/// Colours are Okabe and Ito's (jfly.uni-koeln.de/color), which people with any kind of colour blindness tell apart; on
/// a dark ground, which follows the reader's own setting, the dark ones are lighter.
enum Page {
    static func html(title: String, body: [String]) -> String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>\(escaped(title))</title>
        <style>\(style)</style>
        </head>
        <body>
        <main>
        \(body.joined(separator: "\n"))
        </main>
        <script>\(script)</script>
        </body>
        </html>

        """
    }

    static let colors = 7

    static func tiles(_ tiles: [(name: String, value: String, note: String)]) -> String {
        "<div class=\"tiles\">" + tiles.map {
            "<div><span>\(escaped($0.name))</span><b>\(escaped($0.value))</b><small>\(escaped($0.note))</small></div>"
        }.joined() + "</div>"
    }

    /// The first row is the head. Columns from `numbers` on are numbers.
    static func table(_ rows: [[String]], numbers: Int, kind: String = "") -> String {
        guard let head = rows.first else { return "" }
        func row(_ cells: [String], _ tag: String) -> String {
            "<tr>" + cells.enumerated().map { column, cell in
                "<\(tag)\(column >= numbers ? " class=\"n\"" : "")>\(escaped(cell))</\(tag)>"
            }.joined() + "</tr>"
        }
        return "<div class=\"scroll\"><table class=\"\(kind)\"><thead>\(row(head, "th"))</thead><tbody>"
            + rows.dropFirst().map { row($0, "td") }.joined(separator: "\n") + "</tbody></table></div>"
    }

    private static let style = """
        :root{--bg:#fff;--fg:#1b1f24;--dim:#5b6570;--rule:#d9dee3;--card:#f6f8fa;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;
        --c3:#cc79a7;--c4:#b8860b;--c5:#56b4e9;--c6:#4d4d4d;color-scheme:light dark}
        @media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6e9ec;--dim:#9aa5b1;--rule:#333b44;--card:#1c2229;
        --c0:#5ab4f0;--c1:#ff8c42;--c2:#2ecf9f;--c3:#e9a3c9;--c4:#f0c24b;--c5:#9ad4f5;--c6:#b5b5b5}}
        *{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);
        font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
        main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}h1{font-size:26px;margin:0 0 2px}
        h2{font-size:18px;margin:36px 0 10px;border-bottom:1px solid var(--rule);padding-bottom:4px}
        p.sub{color:var(--dim);margin:0 0 18px}small{color:var(--dim);font-weight:400}
        .tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:10px}
        .tiles div{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 12px;display:flex;
        flex-direction:column}.tiles span{color:var(--dim);font-size:13px}.tiles b{font-size:20px;
        font-variant-numeric:tabular-nums}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:18px}
        figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 12px}
        figcaption{font-weight:600}.legend{font-size:13px;color:var(--dim);display:flex;flex-wrap:wrap;gap:2px 14px}
        .legend i{display:inline-block;width:14px;height:3px;margin-right:5px;vertical-align:middle;
        background:currentColor}
        .plot{position:relative}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11.5px}
        .grid{stroke:var(--rule);stroke-width:1}.axis,.tick{stroke:var(--dim);stroke-width:1}
        .line{fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round}.dot{fill:currentColor}
        .bar{fill:currentColor}.cursor{stroke:var(--dim);stroke-dasharray:3 3;visibility:hidden}
        .tip{position:absolute;top:6px;display:none;pointer-events:none;background:var(--bg);
        border:1px solid var(--rule);border-radius:6px;padding:4px 8px;font-size:12.5px;
        white-space:nowrap;font-variant-numeric:tabular-nums}
        .c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}
        .c5{color:var(--c5)}.c6{color:var(--c6)}
        .scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px}
        th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}
        th{color:var(--dim);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
        table.config td{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12.5px}
        pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--rule);
        border-radius:8px;padding:10px 12px;font-size:13px}pre b{color:var(--c0);font-weight:600}
        details summary{cursor:pointer;color:var(--dim);margin:8px 0}
        """

    private static let script = """
        document.querySelectorAll("figure").forEach(figure=>{
        const svg=figure.querySelector("svg"),data=figure.querySelector("script"),tip=figure.querySelector(".tip");
        if(!svg||!data||svg.dataset.x0===undefined)return;
        const lines=JSON.parse(data.textContent),cursor=svg.querySelector(".cursor"),width=svg.viewBox.baseVal.width;
        const x0=+svg.dataset.x0,x1=+svg.dataset.x1,left=+svg.dataset.left,right=+svg.dataset.right;
        const text=v=>Math.abs(v)>=1e4||v!==0&&Math.abs(v)<1e-3?v.toExponential(3):String(+v.toPrecision(5));
        svg.addEventListener("pointermove",event=>{
        const box=svg.getBoundingClientRect(),at=(event.clientX-box.left)/box.width*width;
        const x=x0+(at-left)/(width-left-right)*(x1-x0);let near=null;
        for(const l of lines)for(const v of l.x)if(near===null||Math.abs(v-x)<Math.abs(near-x))near=v;
        if(near===null)return;
        const rows=lines.map(l=>{let i=0;l.x.forEach((v,k)=>{if(Math.abs(v-near)<Math.abs(l.x[i]-near))i=k});
        const row=document.createElement("div");row.className="c"+l.c;
        row.textContent=(lines.length>1?l.n+"  ":"")+text(l.y[i]);return row});
        const head=document.createElement("small");head.textContent=text(near);tip.replaceChildren(head,...rows);
        const px=left+(near-x0)/(x1-x0)*(width-left-right);
        cursor.setAttribute("x1",px);cursor.setAttribute("x2",px);cursor.style.visibility="visible";
        tip.style.display="block";const share=px/width;
        tip.style.left=share<.6?share*100+2+"%":"auto";tip.style.right=share<.6?"auto":(1-share)*100+2+"%"});
        svg.addEventListener("pointerleave",()=>{tip.style.display="none";cursor.style.visibility="hidden"})});
        """
}
