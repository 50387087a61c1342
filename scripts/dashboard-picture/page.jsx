// Draws panels of dashboards/streamgauge.json with Grafana's own components, from the answers of a real Prometheus that
// picture.mjs puts into `window.picture`: the first row as Grafana opens it, and some more. State timelines are not
// among the published components, so no row with one is drawn.
import * as React from "react";
import {createRoot} from "react-dom/client";
import {
    EventBusSrv, FieldConfigOptionsRegistry, FieldType, LoadingState, ThemeContext, applyFieldOverrides, cacheFieldDisplayNames,
    createTheme, dateTime,
    getDisplayProcessor, reduceField, setTimeZoneResolver, standardTransformers, standardTransformersRegistry,
    toDataFrame, transformDataFrame,
} from "@grafana/data";
import {BigValue, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries} from "@grafana/ui";
import {TableNG} from "@grafana/ui/unstable";

const {panels, from, to, width} = window.picture;
const CELL = 30, GAP = 8;
const theme = createTheme({colors: {mode: "dark"}});
const range = {from: dateTime(from), to: dateTime(to), raw: {from: dateTime(from), to: dateTime(to)}};
setTimeZoneResolver(() => "utc");
// Some are there under two names.
standardTransformersRegistry.setInit(() => [...new Set(Object.values(standardTransformers))].map(transformation => (
    {id: transformation.id, name: transformation.name, transformation: async () => transformation, editor: () => null})));

// The properties of fields that overrides of the dashboard may set.
const property = path => ({
    id: path, path: path.replace("custom.", ""), isCustom: path.startsWith("custom."), name: path, shouldApply: () => true,
    process: value => value, override: () => null, editor: () => null, settings: {}, getItemsCount: () => 0,
});
const registry = new FieldConfigOptionsRegistry();
["unit", "color", "thresholds", "mappings", "links", "noValue", "displayName", "decimals", "min", "max", "custom.cellOptions",
    "custom.align", "custom.filterable", "custom.width", "custom.drawStyle", "custom.lineWidth", "custom.fillOpacity",
    "custom.showPoints", "custom.axisSoftMin", "custom.spanNulls", "custom.stacking", "custom.thresholdsStyle"].forEach(path => registry.register(property(path)));

const legendOf = (format, labels) => format === "__auto" || !format ? JSON.stringify(labels)
    : format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");

function lines({target, result}) {
    return result.map(({metric, values}) => {
        const name = legendOf(target.legendFormat, metric);
        return toDataFrame({
            refId: target.refId, name,
            fields: [
                {name: "Time", type: FieldType.time, values: values.map(([time]) => time * 1000)},
                {name: "Value", type: FieldType.number, labels: metric, values: values.map(([, value]) => Number(value)),
                    config: {displayNameFromDS: name}},
            ],
        });
    });
}

function table({target, result}) {
    const labels = [...new Set(result.flatMap(({metric}) => Object.keys(metric)))].filter(name => name !== "__name__").sort();
    return toDataFrame({
        refId: target.refId,
        fields: [
            {name: "Time", type: FieldType.time, values: result.map(({value}) => value[0] * 1000)},
            ...labels.map(name => ({name, type: FieldType.string, values: result.map(({metric}) => metric[name] ?? "")})),
            {name: `Value #${target.refId}`, type: FieldType.number, values: result.map(({value}) => Number(value[1]))},
        ],
    });
}

async function framesOf(panel) {
    let frames = panel.type === "table" ? panel.answers.map(table)
        : panel.answers.flatMap(answer => answer.target.instant ? [table(answer)] : lines(answer));
    if (panel.transformations) {
        frames = await new Promise(resolve => transformDataFrame(panel.transformations, frames).subscribe(resolve));
    }
    frames = applyFieldOverrides({
        data: frames, fieldConfig: panel.fieldConfig, replaceVariables: text => text, theme, timeZone: "utc",
        fieldConfigRegistry: registry,
    });
    cacheFieldDisplayNames(frames);
    return frames;
}

function Stat({panel, frames, width, height}) {
    const frame = frames.find(frame => frame.fields.some(field => field.type === FieldType.number));
    const field = frame?.fields.find(field => field.type === FieldType.number);
    const number = field && reduceField({field, reducers: ["lastNotNull"]}).lastNotNull;
    const config = {...panel.fieldConfig.defaults};
    const display = (field?.display ?? getDisplayProcessor({field: {type: FieldType.number, config}, theme}))(number ?? null);
    const sparkline = frame && frame.length > 1 ? {y: field, x: frame.fields[0]} : undefined;
    return <BigValue theme={theme} width={width} height={height} value={display} sparkline={sparkline} colorMode="background"
        graphMode="area" justifyMode="auto" textMode="value" alignmentFactors={undefined}/>;
}

function Content({panel, frames, width, height}) {
    const nothing = frames.every(frame => frame.length === 0);
    if (panel.type === "stat") return <Stat {...{panel, frames, width, height}}/>;
    if (nothing) {
        return <div style={{width, height, display: "flex", alignItems: "center", justifyContent: "center"}}>
            {panel.fieldConfig.defaults.noValue}</div>;
    }
    if (panel.type === "table") {
        return <TableNG data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy} cellHeight="sm"
            fieldConfig={panel.fieldConfig} showTypeIcons={false} structureRev={1} getActions={() => []} timeRange={range}/>;
    }
    return <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" structureRev={1}
        legend={panel.options.legend} options={panel.options}/>;
}

function Dashboard({drawn}) {
    const cell = (width + GAP) / 24;
    const context = {eventBus: new EventBusSrv(), eventsScope: "picture", sync: () => 0};
    return <ThemeContext.Provider value={theme}><GlobalStyles hackNoBackdropBlur isExtensionSidebarOpen={false}/>
        <PanelContextProvider value={context}>
            {drawn.map(({panel, frames}) => {
                const {x, y, w, h} = panel.gridPos;
                const size = {width: w * cell - GAP, height: h * (CELL + GAP) - GAP};
                const place = {position: "absolute", left: GAP + x * cell, top: GAP + y * (CELL + GAP), ...size};
                if (panel.type === "row") {
                    return <div key={panel.id} style={{...place, color: theme.colors.text.primary, fontSize: 16, fontWeight: 500,
                        lineHeight: `${size.height}px`}}>{panel.title}</div>;
                }
                return <div key={panel.id} style={place}>
                    <PanelChrome title={panel.title} {...size} loadingState={LoadingState.Done}
                        padding={panel.type === "timeseries" ? "md" : "none"}>
                        {(width, height) => <Content {...{panel, frames, width, height}}/>}
                    </PanelChrome>
                </div>;
            })}
        </PanelContextProvider></ThemeContext.Provider>;
}

document.body.style.background = theme.colors.background.canvas;
const drawn = await Promise.all(panels.map(async panel => ({panel, frames: panel.type === "row" ? [] : await framesOf(panel)})));
createRoot(document.getElementById("dashboard")).render(<Dashboard drawn={drawn}/>);
